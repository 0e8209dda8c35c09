"""The command line as a person meets it: one paragraph and the right exit code for every kind of bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndec_builder.cli import main
from support.pictures import write_scenes
from support.warm import Warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def light() -> Iterator[Warm]:
    with Warm(light=True) as helper:
        yield helper


def ndec(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ndec_builder", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "good", 3)
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "bad"
    write_scenes(bad, 2)
    (bad / "cut.png").write_bytes((bad / "scene-0000.png").read_bytes()[:500])
    (bad / "text.jpg").write_text("no picture")
    (tmp_path / "wrong.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "unknown.csv").write_text("query_id,reference_id\nscene-0000,nobody\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "ndec.toml").write_text("[mine]\ntopp = 3\n[validate]\npixel = true\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ingest", "reference", "missing"], 2, "missing"),
        (["ingest", "reference", "empty"], 2, "no image in empty"),
        (["ingest", "refs", "good"], 2, "role is 'refs'; it must be reference, basic, pool, query or all"),
        (["ingest", "all", "good"], 2, "role 'all'"),
        (["ingest", "pool", "good", "--engine=ray"], 2, "`ingest` runs on one machine, so it has no --engine"),
        (["ingest", "pool", "s3://bucket/part-{0..3}.tar", "--kind", "tra"], 2, "did you mean 'tar'"),
        (["ingest", "reference", "bad"], 3, "truncated"),
        (["ingest", "query", "good", "--ground-truth", "wrong.csv"], 1, "wrong.csv"),
        (["ingest", "reference", "good", "--ground-truth", "unknown.csv"], 2, "role query"),
        (["mine"], 1, "ndec ingest pool"),
        (["mine", "--split", "validation"], 2, "validation"),
        (["mine", "--workspace", "bench"], 2, "did you mean 'top'"),
        (["mine", "--pool", "missing", "--references", "good"], 2, "missing"),
        (["annotate", "push"], 1, "ndec mine"),
        (["export"], 1, "ndec"),
        (["validate", "good"], 1, "manifest"),
        (["train-asl", "--manifest", "good"], 1, "manifest"),
        (["benchmark"], 2, "--manifest"),
        (["demo", "--size", "huge"], 2, "huge"),
        (["status", "--workspace", "missing"], 1, "ndec init"),
        (["mine", "--config", "none.toml"], 1, "none.toml"),
        (["mine", "--top", "-1"], 2, "top is -1; it must be at least 0"),
        (["mine", "--rank-by", "normalised"], 2, "rank_by is 'normalised'; it must be raw or normalized"),
        (["validate", "good", "--workspace", "bench"], 2, "did you mean 'pixels'"),
        (["minne"], 2, "mine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_paragraph_with_an_exit_code(
    light: Warm, folders: Path, arguments: list[str], code: int, message: str
) -> None:
    done = light.run(arguments, folders, apart=True)
    assert done.returncode == code, done.errors
    assert message in done.errors
    assert "Traceback" not in done.errors
    assert done.text == ""


def test_a_flag_overrides_the_settings_file_and_the_file_overrides_the_default(light: Warm, folders: Path) -> None:
    light.run(["ingest", "basic", "good", "--workspace", "fresh"], folders)
    (folders / "fresh" / "ndec.toml").write_text('[edit]\nrole = "basic"\nprefix = "from-file"\n')
    done = ndec("edit", "--count", "2", "--workspace", "fresh", cwd=folders)
    assert done.returncode == 0, done.stderr
    config = json.loads((folders / "fresh" / "files" / "query" / "run.json").read_text())["config"]
    assert (config["role"], config["prefix"], config["count"], config["seed"]) == ("basic", "from-file", 2, 0)
    done = ndec("edit", "--count", "2", "--role", "reference", "--workspace", "fresh", cwd=folders)
    assert done.returncode == 1 and "ndec ingest reference" in done.stderr


def test_a_wrong_second_folder_is_told_before_the_first_is_read(folders: Path) -> None:
    ndec("mine", "--pool", "good", "--references", "missing", "--workspace", "fresh", cwd=folders)
    assert not (folders / "fresh" / "images").exists()


def test_an_unknown_id_in_a_ground_truth_is_named(folders: Path) -> None:
    done = ndec(
        "benchmark", "--queries", "good", "--references", "good", "--ground-truth", "unknown.csv", "--model",
        "efficientnet-lite0", cwd=folders,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nobody" in done.stderr


def test_json_is_one_object_on_stdout(folders: Path) -> None:
    done = ndec("ingest", "reference", "good", "--workspace", "fresh", "--json", cwd=folders)
    result = json.loads(done.stdout)
    assert result["result"].endswith("reference.parquet")
    assert result["counts"] == {"images": 3, "rejects": 0, "ground_truth": 0}
    assert done.stdout.count("\n") == 1


def test_status_names_what_is_done_and_the_next_command(light: Warm, folders: Path) -> None:
    light.run(["ingest", "reference", "good", "--workspace", "fresh"], folders)
    done = ndec("status", "--workspace", "fresh", cwd=folders)
    assert "images reference" in done.stdout
    assert "3 rows" in done.stdout
    assert "next: ndec ingest pool FOLDER --workspace fresh" in done.stdout


def test_status_as_json_is_one_object(light: Warm, folders: Path) -> None:
    light.run(["ingest", "reference", "good", "--workspace", "fresh"], folders)
    found = json.loads(ndec("status", "--workspace", "fresh", "--json", cwd=folders).stdout)
    assert found["next"] == "ndec ingest pool FOLDER --workspace fresh" and found["workspace"] == "fresh"
    (stage,) = [stage for stage in found["stages"] if stage["name"] == "images reference"]
    assert stage["done"] and stage["text"] == "3 rows" and stage["progress"] is None


def test_version_init_and_doctor(folders: Path) -> None:
    assert ndec("--version", cwd=folders).stdout.startswith("ndec 0.")
    assert (folders / ndec("init", "new", cwd=folders).stdout.strip()).is_file()
    again = ndec("init", "new", cwd=folders)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    findings = json.loads(ndec("doctor", "--json", cwd=folders).stdout)
    assert {"torch", "faiss"} <= {finding["name"] for finding in findings if finding["state"] == "ok"}


@pytest.mark.parametrize("verb", [("benchmark",), ("league", "run")])
def test_help_in_a_small_window_cuts_no_word(verb: tuple[str, ...], tmp_path: Path) -> None:
    """The columns of a csv file were shown as `query_id,referen…`."""
    shown = ndec(*verb, "--help", cwd=tmp_path, COLUMNS="80").stdout
    assert "--ground-truth" in shown and "…" not in shown


def test_doctor_says_when_both_faiss_flavours_are_there(tmp_path: Path) -> None:
    for name in ("faiss_cpu", "faiss_gpu"):  # what pip leaves behind for each
        info = tmp_path / "site" / f"{name}-1.10.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.10\n")
    done = ndec("doctor", cwd=tmp_path, PYTHONPATH=f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}")
    assert done.returncode == 1
    assert "overwrite one another" in done.stdout and "fix: `pip uninstall" in done.stdout


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_told_otherwise(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["ndec", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == expected
