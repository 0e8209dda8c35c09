"""How the command line feels: what it says to a person, what it keeps from a pipe, what it does with a typo."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

import ndec_builder as ndec
from ndec_builder.annotation.label_studio.ports import Listener
from ndec_builder.api import configure
from ndec_builder.cli import app
from ndec_builder.cli.assist import doctor, rates, sizing
from ndec_builder.cli.assist.forecast import forecast
from ndec_builder.cli.assist.next_steps import next_command
from ndec_builder.commands import COMMANDS
from ndec_builder.core.schemas import CANDIDATES, LABEL_ROWS, TASKS, table_of
from ndec_builder.core.storage import write_json, write_table
from support.pictures import write_scenes

pytestmark = pytest.mark.slow

NOT_JSON = {"annotate serve"}  # it runs until Ctrl-C


def commands(group: click.Group | None = None, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in (group or typer.main.get_group(app)).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def at_a_terminal(arguments: list[str], cwd: Path) -> tuple[str, str]:
    """stdout (a pipe) and stderr (a terminal) of a command."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ndec_builder", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=slave, text=True,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        seen += part
    os.close(master)
    output = process.communicate()[0]
    assert process.returncode == 0, seen.decode()
    return output, seen.decode("utf-8", "replace")


def test_a_person_is_told_before_and_after_and_a_pipe_is_not(tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 5)
    bench = tmp_path / "bench"
    arguments = ["ingest", "pool", "photos", "--workspace", "bench"]
    output, told = at_a_terminal(arguments, tmp_path)
    assert output.strip().endswith("pool.parquet")
    assert told.rstrip().endswith("next: ndec ingest reference FOLDER --workspace bench")
    piped = subprocess.run(
        [sys.executable, "-m", "ndec_builder", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "next:" not in piped.stderr and "\x1b" not in piped.stderr + piped.stdout
    said = forecast("embed", ndec.configure(ndec.EmbedConfig, bench, role="pool"))
    assert said and said.startswith("5 pool images in 1 shard, 1 at a time") and said.endswith(rates.MEASURED_LATER)


def test_a_forecast_counts_the_work_that_is_left_and_a_broken_file_has_none(tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 3)
    for role in ("pool", "reference"):
        ndec.ingest(ndec.configure(ndec.IngestConfig, tmp_path, role=role, source=tmp_path / "photos"))
    config = ndec.configure(ndec.MineConfig, tmp_path, top=4)
    said = forecast("mine", config)
    assert said and said.startswith("6 images to embed first; 3 pool × 3 reference images = 9 pairs")
    recommended = forecast("mine", ndec.configure(ndec.MineConfig, tmp_path))
    assert recommended and "the best 1 are kept" in recommended  # half of a pool of three
    local = forecast("mine", ndec.configure(ndec.MineConfig, tmp_path, top=4, shortlist="local"))
    assert local and "local features of 6 images compared; of at most 4 pairs" in local
    both = forecast("mine", ndec.configure(ndec.MineConfig, tmp_path, top=4, shortlist="both"))
    assert both and "local features of 6 images compared as well; 3 pool × 3 reference images" in both
    folders = ndec.configure(ndec.MineConfig, tmp_path, pool=tmp_path / "photos", references=tmp_path / "photos")
    assert "the best 0 pairs" not in (forecast("mine", folders) or "the best 0 pairs")
    folder = ndec.Workspace(tmp_path).embeddings("pool", config.model)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("no json")
    assert forecast("embed", ndec.configure(ndec.EmbedConfig, tmp_path, role="pool")) is None


def test_a_forecast_knows_the_dimensions_of_the_model(tmp_path: Path) -> None:
    workspace, roles = ndec.Workspace(tmp_path), ("pool", "reference")
    assert rates.dimensions(workspace, roles, "efficientnet-lite0", None) == 256
    (tmp_path / "m.pth").touch()
    assert rates.dimensions(workspace, roles, f"multigrain:{tmp_path / 'm.pth'}", None) == 1500
    (tmp_path / "ndec.toml").write_text("[embed]\ndim = 96\n")
    assert rates.dimensions(workspace, roles, "efficientnet-lite0", None) == 96
    write_json(workspace.embeddings("pool", "efficientnet-lite0") / "run.json", {"dim": 64})
    assert rates.dimensions(workspace, roles, "efficientnet-lite0", None) == 64


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 600)
    arguments = [sys.executable, "-m", "ndec_builder", "ingest", "pool", "photos", "--workspace", "bench"]
    with subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background ignores it
    ) as process:  # fmt: skip
        while not (tmp_path / "bench").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130 and "run the same command again to resume" in said and "Traceback" not in said
    again = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "ingest pool: 600 images, 0 rejected" in again.stderr


def test_forecasts_of_edits_labelling_prelabels_and_the_dataset(tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 4)
    bench = tmp_path / "bench"
    for role in ("pool", "reference"):
        ndec.ingest(ndec.configure(ndec.IngestConfig, bench, role=role, source=tmp_path / "photos"))

    def said(verb: str, **flags: Any) -> str:
        return forecast(verb, configure(COMMANDS[verb].config_class(), bench, **flags)) or ""

    assert said("push") == "" and said("prelabel") == ""  # nothing is mined yet
    assert said("edit", count=10).startswith("10 edited copies of 4 reference images, up to 3 of one image")
    assert said("edit", count=30).endswith(rates.MEASURED_LATER)  # how busy the machine is now is not known yet

    pairs = [
        {"pair_id": f"p{i}", "split": "test", "query_id": f"q{i}", "reference_id": "r", "rank": i,
         "duplicate_of": "r" if i < 40 else None}
        for i in range(400)
    ]  # fmt: skip
    write_table(bench / "candidates" / "test" / "candidates.parquet", table_of(CANDIDATES, pairs))
    both = {"annotators": ("ann", "ben"), "overlap": 0.2}
    # 360 pairs that are no duplicates, 72 of them twice, 5 s each, for two people
    assert said("push", **both) == (
        "360 pairs for 2 people, 20% of them twice: about 18 min of labelling each at 5.0 s a pair (assumed)"
    )
    assert said("push", annotators=("ann",), count=12).startswith("12 pairs for ann: about 60 s of labelling at")
    assert said("push", round="double_check") == ""  # which pairs is known when the labels were looked at
    tasks = [{"pair_id": f"p{i}", "round": "first", "annotator": "ann"} for i in range(40, 300)]
    write_table(bench / "annotation" / "test" / "tasks.parquet", table_of(TASKS, tasks))
    labels = [
        {"pair_id": f"p{i}", "round": "first", "annotator": "ann", "seconds": 2.0 + i % 3} for i in range(40, 100)
    ]
    write_table(bench / "annotation" / "test" / "labels.parquet", table_of(LABEL_ROWS, labels))
    assert said("push") == (  # the annotators who have projects
        "100 pairs for ann: about 5 min of labelling at 3.0 s a pair (the median of the labels so far)"
    )
    assert "6 synthetic copies and crops of your reference images" in said("prelabel")
    assert "400 mined pairs are scored" in said("prelabel")
    plain, packed = said("export", distractors=3), said("export", materialize="tar", resize=64)
    assert (
        plain.startswith("4 references, 0 queries, 0 training images, 3 distractors") and "no image is copied" in plain
    )
    size = sum(path.stat().st_size for path in (tmp_path / "photos").iterdir())
    assert f"about 4 images ({sizing.size(size)} before re-encoding) are packed (tar)" in packed


def test_every_verb_speaks_json() -> None:
    silent = {name for name, command in commands() if "--json" not in [o for p in command.params for o in p.opts]}
    assert silent == NOT_JSON


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ndec mi", {"mine"}),
        ("ndec annotate pu", {"push", "pull"}),
        ("ndec mine --split t", {"test", "train"}),
        ("ndec ingest ", {"reference", "basic", "pool", "query", "all"}),
        ("ndec benchmark --manifest x --scorer f", {"fused"}),
    ],
)
def test_the_shell_completes_commands_and_values(words: str, offered: set[str]) -> None:
    environment = {
        **os.environ, "_NDEC_COMPLETE": "complete_bash", "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - (not words.endswith(" "))),
    }  # fmt: skip
    script = "import sys; sys.argv = ['ndec']; from ndec_builder.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "hint"),
    [
        (["mien"], "", "'mine'"),
        (["annotate", "pussh"], "", "'push'"),
        (["mine", "--topp", "3"], "", "--top"),
        (["mine"], "[mine]\ntopp = 3\n", "did you mean 'top'"),
        (["mine"], "[minne]\ntop = 3\n", "did you mean 'mine'"),
        (["mine"], "[annotate.pusch]\noverlap = 0.2\n", "did you mean 'annotate.push'"),
        (["train-asl", "--manifest", "x", "--recipe", "asl-copie"], "", "'asl-copies'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(
    arguments: list[str], settings: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "ndec.toml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "ndec_builder", *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 2 and hint in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("there", "role", "command"),
    [
        (["basic"], "basic", "ndec mine --pool FOLDER --references FOLDER"),
        (["basic", "pool", "reference"], "basic", "ndec mine --split train"),
        (["pool"], "pool", "ndec ingest reference FOLDER"),
        (["pool", "reference"], "reference", "ndec mine"),
        (["query"], "query", "ndec export"),
    ],
)
def test_what_comes_after_an_ingest_follows_from_what_is_there(
    there: list[str], role: str, command: str, tmp_path: Path
) -> None:
    for name in there:
        path = ndec.Workspace(tmp_path).images(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    config = ndec.configure(ndec.IngestConfig, tmp_path, role=role, source="x")
    assert next_command("ingest", config, tmp_path) == f"{command} --workspace {tmp_path}"


def test_doctor_reads_what_the_cpu_can(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Old CPU\nflags\t\t: sse avx2 avx512f\n")
    found = doctor._cpu(cpuinfo)
    assert "Old CPU" in found.text and "AVX2, AVX-512;" in found.text and "no bfloat16" in found.text
    cpuinfo.write_text("model name\t: New CPU\nflags\t\t: avx2 avx512f avx512_bf16 amx_bf16\n")
    assert "AMX-BF16" in doctor._cpu(cpuinfo).text and "no bfloat16" not in doctor._cpu(cpuinfo).text


def test_doctor_names_servers_that_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Listener("0.0.0.0", 8700, 4711, "label-studio start")
    monkeypatch.setattr("ndec_builder.annotation.label_studio.ports.open_to_others", lambda: [wide])
    found = doctor._listening()
    assert found.state == "note" and "0.0.0.0:8700" in found.text and "without --host" in found.fix
    assert "fix: unless this is intended" in doctor.doctor_text([found])


def test_doctor_checks_every_part_and_says_how_to_fix_it() -> None:
    findings = doctor.check_machine()
    names = [finding.name for finding in findings]
    assert names == [
        "python", "cpu", "memory", "gpu", "torch", "faiss", "label-studio", "chromium", "disk", "listening",
    ]  # fmt: skip
    assert all(finding.fix for finding in findings if finding.state != "ok")
