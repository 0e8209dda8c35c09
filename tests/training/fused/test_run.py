"""The run on a small manifest: same bytes for any number of workers and again after a kill; refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.training.fused import model as model_file
from ndec_builder.training.fused import run as run_module
from ndec_builder.training.fused.model import FUSED_CARD, FUSED_WEIGHTS, load_model
from ndec_builder.training.fused.run import run
from ndec_builder.training.fused.settings import FusedConfig

pytestmark = pytest.mark.slow

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def fused(
    tmp_path: Path, tiny: str, tables: Rows, write_manifest: Callable[[Rows], Path]
) -> Callable[..., FusedConfig]:
    manifest = write_manifest(tables)

    def make(workspace: str = "one", **changes: Any) -> FusedConfig:
        values = {"backbone": tiny, "dim": 8, "folds": 2, "networks": 1, "epochs": 3, "workers": 1}
        values |= {"views": 3, "steps": 4, **changes}
        return FusedConfig(tmp_path / workspace, manifest, **values)

    return make


def test_the_same_bytes_for_one_and_two_workers_and_after_lost_shards(
    fused: Callable[..., FusedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "SHARD_ITEMS", 6)  # several shards: a single one is measured in this process
    one, two = run(fused("one")), run(fused("two", workers=2))
    assert (one / FUSED_WEIGHTS).read_bytes() == (two / FUSED_WEIGHTS).read_bytes()
    assert (one / FUSED_CARD).read_bytes() == (two / FUSED_CARD).read_bytes()
    pairs = {path: path.stat().st_mtime_ns for path in (one.parents[1] / "cache" / "fused").rglob("*.npy")}
    run(fused("one", editor_copies=0, name="other"))  # pairs of another setting do not replace them
    assert pairs and pairs == {path: path.stat().st_mtime_ns for path in pairs if path.is_file()}
    before = (one / FUSED_WEIGHTS).stat().st_mtime_ns
    assert run(fused("one")) == one
    assert (one / FUSED_WEIGHTS).stat().st_mtime_ns == before  # a finished run does nothing
    (one / FUSED_CARD).unlink()  # what a kill before the last step leaves
    assert (run(fused("one")) / FUSED_WEIGHTS).read_bytes() == (two / FUSED_WEIGHTS).read_bytes()


FEW_PAIRS = {"copies": 1, "rivals": 0, "editor_copies": 0, "views": 2}
KILLED_WHILE_FITTING = """
import json, os, signal, sys
from pathlib import Path
from ndec_builder.training.fused import run
from ndec_builder.training.fused.settings import FusedConfig
values = json.loads(sys.argv[1])
run.fit_fused = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
run.run(FusedConfig(**{**values, "workspace": Path(values["workspace"]), "manifest": Path(values["manifest"])}))
"""


def test_a_killed_refit_leaves_no_fit_of_other_settings_and_a_rerun_has_the_bytes_of_one_that_was_not_killed(
    fused: Callable[..., FusedConfig],
) -> None:
    directory, expected = run(fused(**FEW_PAIRS)), run(fused(**FEW_PAIRS, epochs=4, name="expected"))
    first = (directory / FUSED_CARD).read_bytes()
    values = {name: str(v) if isinstance(v, Path) else v for name, v in vars(fused(**FEW_PAIRS, epochs=4)).items()}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", KILLED_WHILE_FITTING, json.dumps(values)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    with pytest.raises(NdecError, match=r"a later fit in .* is not finished: run it again, or give .*previous"):
        load_model(directory)
    assert not (directory / "run.json").exists()
    assert (directory / "previous" / FUSED_CARD).read_bytes() == first
    assert load_model(directory / "previous").card["config"]["epochs"] == 3
    again = run(fused(**FEW_PAIRS, epochs=4))
    assert (again / FUSED_WEIGHTS).read_bytes() == (expected / FUSED_WEIGHTS).read_bytes()


def test_new_weights_without_their_card_are_not_read_with_the_old_one(
    fused: Callable[..., FusedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run(fused(**FEW_PAIRS))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(model_file, "write_json", stop)
        run(fused(**FEW_PAIRS, epochs=4))
    assert (directory / FUSED_WEIGHTS).exists()
    with pytest.raises(NdecError, match="is not finished"):
        load_model(directory)
    assert load_model(run(fused(**FEW_PAIRS, epochs=4))).card["config"]["epochs"] == 4


def test_the_card_names_what_was_trained_on_and_refuses_it(fused: Callable[..., FusedConfig], tables: Rows) -> None:
    model = load_model(run(fused()))
    assert {row["sha256"] for row in tables["train_basic"]} <= set(model.card["train_sha256"])
    assert "scene-0" in model.card["train_groups"]
    assert set(model.card["figures"]["pairs"]) >= {"copy", "hard", "reverse", "copy_of_hard", "rival"}
    with pytest.raises(NdecError, match="would be meaningless"):
        model.refuse_overlap({tables["train_basic"][0]["sha256"]}, set(), "queries")
    with pytest.raises(NdecError, match="groups"):
        model.refuse_overlap(set(), {"scene-1"}, "references")
    model.refuse_overlap({"other"}, {"elsewhere"}, "queries")


def test_bad_input(
    fused: Callable[..., FusedConfig], tmp_path: Path, tables: Rows, write_manifest: Callable[[Rows], Path]
) -> None:
    with pytest.raises(UsageError, match="folds is 1; it must be at least 2"):
        fused(folds=1)
    config = fused()
    with pytest.raises(NdecError, match="is not a fused scorer"):
        load_model(tmp_path)
    directory = run(config)
    card = json.loads((directory / FUSED_CARD).read_text("utf-8"))
    (directory / FUSED_CARD).write_text(json.dumps({**card, "version": 0}), "utf-8")
    with pytest.raises(NdecError, match="version 0"):
        load_model(directory)
    (directory / FUSED_CARD).write_text(json.dumps(card), "utf-8")
    (directory / FUSED_WEIGHTS).write_bytes(b"x" + (directory / FUSED_WEIGHTS).read_bytes()[1:])
    with pytest.raises(NdecError, match="damaged"):
        load_model(directory)
    tables["train_pairs"] = []
    write_manifest(tables)
    with pytest.raises(NdecError, match="no train_pairs"):
        run(config)
