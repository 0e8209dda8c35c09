"""Peers of `ndec league`, their environments, and what its own detectors read."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ndec_builder.cli import app
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import RESULT_VERSION, parse_model
from ndec_builder.evaluation.benchmark import open_dataset
from ndec_builder.evaluation.dataset import from_folders, from_manifest
from ndec_builder.evaluation.halves import restricted
from ndec_builder.league import entries, environments, own_detector
from ndec_builder.league.own_detector import benchmark_config
from ndec_builder.league.run import _training
from ndec_builder.league.settings import LeagueConfig
from support.league_adapters import CONSTANTS, GREYS, adapter, league
from support.pictures import scene

pytestmark = pytest.mark.slow


def test_an_unknown_detector_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no detector 'phahs'.*did you mean 'phash'"):
        environments.find_peer("phahs")


def test_an_adapter_that_lacks_a_constant_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("REQUIRES = ()\ndef describe(path): ...\n")
    with pytest.raises(UsageError, match="lacks COMPARE, THRESHOLD"):
        environments.find_peer(str(path))


def test_every_adapter_that_comes_with_ndec_can_be_read() -> None:
    peers = [environments.find_peer(name) for name in environments.built_in()]
    assert len(peers) >= 8
    assert all(peer.source and peer.tested_version for peer in peers)


def test_a_distance_becomes_a_score_where_higher_is_more_alike() -> None:
    assert environments.find_peer("pdq").score_threshold == -31
    assert environments.find_peer("fastdup").score_threshold == 0.9


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for environments, with nothing in it."""
    monkeypatch.setenv("NDEC_LEAGUE", str(tmp_path / "environments"))
    return tmp_path / "environments"


def test_a_peer_that_is_not_installed_is_a_row(environment: Path, small: Any, tmp_path: Path) -> None:
    rows = league(small, tmp_path / "out", "pdq", adapter(tmp_path, "greys", GREYS.format(fails="-")))
    assert rows["pdq"]["problem"] == "not installed: `ndec league install pdq`"


def test_a_version_that_was_not_tested_is_said(environment: Path, small: Any, tmp_path: Path) -> None:
    path = tmp_path / "greys.py"
    path.write_text(
        CONSTANTS.format(compare="hamming", threshold=12).replace("()", '("grey-hash==1.0",)') + GREYS.format(fails="-")
    )
    folder = environment / "grey-hash-1.0"
    (folder / "lib/python3.11/site-packages/grey_hash-2.0.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    script = f'#!/bin/sh\nshift\nexec "{sys.executable}" "$@"\n'
    (folder / "bin" / "python").write_text(script)
    (folder / "bin" / "python").chmod(0o755)
    row = league(small, tmp_path / "out", str(path))["greys"]
    assert row["version"] == "grey-hash 2.0" and row["numbers"]
    assert "installed is 2.0, and the adapter was tested with 1.0" in row["notes"]


def test_an_install_without_a_network_says_so(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], **_: Any) -> Any:
        return subprocess.CompletedProcess(command, int("pip" in command), "", "ERROR: No matching distribution")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(NdecError, match=r"could not install pdq \(exit code 1\).*the package index must be reachable"):
        environments.install("pdq")
    assert not list(environment.rglob(".ndec-installed"))


@pytest.mark.parametrize("has_pip", [True, False])
def test_ndecs_own_pip_installs_into_an_environment_without_one(
    environment: Path, monkeypatch: pytest.MonkeyPatch, has_pip: bool
) -> None:
    commands: list[list[str]] = []

    def recorded(command: list[str], **_: Any) -> Any:
        commands.append(command)
        (environment / "pdqhash-0.2.8").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", recorded)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if has_pip else None)
    assert environments.install("pdq") == environment / "pdqhash-0.2.8"
    made, installed = commands
    its_python = str(environment / "pdqhash-0.2.8" / "bin" / "python")
    assert ("--without-pip" in made) is has_pip
    assert installed[: installed.index("install")] == (
        [sys.executable, "-m", "pip", "--python", its_python] if has_pip else [its_python, "-m", "pip"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bank", "a.csv"], "--bank needs harmless pictures"),
        (["--benign", "a.csv", "--manifest", "x"], "--benign belongs to --bank"),
        (["--queries", "a"], "league needs a dataset"),
        (["install", "nothing"], "there is no detector 'nothing'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["league", *options])
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


@pytest.mark.network
def test_three_real_peers_play(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PDQ, czkawka and ImageHash in environments made from the package index, and a csv."""
    monkeypatch.setenv("NDEC_LEAGUE", str(tmp_path / "environments"))
    try:
        for name in ("pdq", "czkawka", "phash"):
            environments.install(name)
    except NdecError as error:
        probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "six"]
        if subprocess.run([*probe, "--dest", str(tmp_path / "probe")], capture_output=True).returncode == 0:
            raise  # the package index answers, so the fault is ours
        pytest.skip(f"the package index cannot be reached: {error}")
    data = from_manifest(small.manifest)
    given = tmp_path / "given.csv"
    given.write_text("".join(f"{query},r{query[1:]},1\n" for query in data.query_ids if query.startswith("q")))
    rows = league(small, tmp_path / "out", "pdq", "czkawka", "phash", f"given={given}")
    assert all(rows[name]["numbers"] for name in ("pdq", "czkawka", "phash", "given"))
    assert rows["pdq"]["version"] == "pdqhash 0.2.8" and rows["pdq"]["cpu"]["per_million_pairs"] > 0
    # the csv names the true pair of every copy, and one wrong pair per hard negative, all with one score
    data = restricted(data, "untouched")
    wrong = int((data.stratum > 0).sum())
    assert rows["given"]["numbers"]["all/uap"]["value"] == pytest.approx(
        np.mean([(i + 1) / (i + 1 + wrong) for i in range(len(data.truth))])
    )


def test_own_detectors_see_the_halves_of_the_kinds_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The groups of the file decide which half a query belongs to."""
    for side, count in (("queries", 12), ("references", 6)):
        for number in range(count):
            path = tmp_path / side / f"{side[0]}{number:02}.png"
            path.parent.mkdir(exist_ok=True)
            scene(number, (32, 32)).save(path)
    (tmp_path / "truth.csv").write_text("".join(f"q{n:02}.png,r{n:02}.png\n" for n in range(6)))
    kinds = tmp_path / "kinds.csv"
    kinds.write_text(
        "query_id,kind,group\n"
        + "".join(f"q{n:02}.png,{'hard_negative' if n > 5 else 'edited_copy'},g{n % 6}\n" for n in range(12))
    )
    sides = {"queries": tmp_path / "queries", "references": tmp_path / "references"}
    config = LeagueConfig(workspace=tmp_path, **sides, ground_truth=tmp_path / "truth.csv", kinds=kinds)
    monkeypatch.setattr(entries, "_run", lambda *_: "not run")
    entries.run_entry(entries.Entry("cosine"), config, ["key"], (tmp_path, tmp_path), tmp_path / "raw")
    own = benchmark_config(json.loads((tmp_path / "raw" / "cosine.job.json").read_text()), tmp_path / "scratch")
    whole, seen = from_folders(*sides.values(), tmp_path / "truth.csv", kinds=kinds), open_dataset(own)
    assert seen.fingerprint == whole.fingerprint
    assert restricted(seen, "tuned").query_ids == restricted(whole, "tuned").query_ids != []


def test_other_training_images_are_another_whitening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset that was exported again in the same folder, with the same test images."""
    runs: list[Path] = []

    def run(_: Any, log: Path, minutes: float) -> str:
        target = log.with_suffix(".csv")
        target.write_text("q,r,1\n")
        Path(f"{target}.json").write_text("{}")
        runs.append(target)
        return ""

    monkeypatch.setattr(entries, "_run", run)
    config = LeagueConfig(workspace=tmp_path, manifest=tmp_path)

    def ran(training: str) -> bool:
        before = len(runs)
        entries.run_entry(
            entries.Entry("cosine"), config, ["key"], (tmp_path, tmp_path), tmp_path / "raw", lambda: training
        )
        return len(runs) > before

    assert [ran("a"), ran("a"), ran("b"), ran("b")] == [True, False, True, False]
    whitening = Workspace(tmp_path).whitening(config.model)
    whitening.mkdir(parents=True)
    (whitening / "whitening.npz").write_bytes(b"1")
    made = {"result_version": RESULT_VERSION, "model_fingerprint": parse_model(config.model).fingerprint()}
    write_json(whitening / "run.json", made)
    assert [ran("b"), ran("c")] == [True, False]  # that of the workspace
    write_json(whitening / "run.json", made | {"result_version": 0})  # which an own detector does not use
    assert [ran("c"), ran("d")] == [True, True]


def test_training_images_that_could_not_be_read_make_another_whitening(tmp_path: Path) -> None:
    """A disk that was not mounted: the list of a detector without these images was taken when they were back."""
    for number in range(3):
        scene(number, (32, 32)).save(tmp_path / f"{number}.png")
    uris = [str(tmp_path / f"{number}.png") for number in range(3)]
    table = pa.table({"image_id": ["0", "1", "2"], "uri": uris, "sha256": [sha256_file(Path(uri)) for uri in uris]})
    dataset: Any = SimpleNamespace(training=table, resolve=str)
    states = [_training(dataset)]
    (tmp_path / "1.png").rename(tmp_path / "elsewhere")
    states.append(_training(dataset))
    (tmp_path / "1.png").write_bytes(b"changed")
    states.append(_training(dataset))
    (tmp_path / "elsewhere").replace(tmp_path / "1.png")
    states.append(_training(dataset))
    assert states[0] == states[3] != states[1] == states[2] and "" not in states
    assert _training(SimpleNamespace(training=None, resolve=str)) == ""


def test_a_stopped_own_detector_leaves_no_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL to the league or, after --minutes, to the detector: nobody else would remove its caches."""
    raw = tmp_path / "raw"
    (raw / ".cosine-killed" / "cache").mkdir(parents=True)
    seen: list[bool] = []

    def stopped(*_: Any) -> str:
        seen.append((raw / ".cosine-killed").exists())
        folder = Path(tempfile.mkdtemp(dir=raw, prefix=own_detector.scratch_prefix(raw / "cosine.csv")))
        (folder / "vectors.npz").write_bytes(b"1")
        return "stopped after 1 minutes"

    monkeypatch.setattr(entries, "_run", stopped)
    config = LeagueConfig(workspace=tmp_path, manifest=tmp_path)
    entries.run_entry(entries.Entry("cosine"), config, ["key"], (tmp_path, tmp_path), raw)
    assert seen == [False]
    assert [path.name for path in raw.iterdir()] == ["cosine.job.json"]
