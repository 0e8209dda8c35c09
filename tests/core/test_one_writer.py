"""Every verb that writes holds the lock of its output, so that two commands never write the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.commands import COMMANDS
from ndec_builder.core import locks
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.locks import locked
from ndec_builder.core.workspace import Workspace
from support.isc2021_file import write_isc2021
from support.pictures import write_scenes


def writers(root: Path) -> dict[str, tuple[dict[str, Any], Path]]:
    """Verb → its settings, and the output that it must be the only writer of."""
    workspace = Workspace(root)
    test, train = (workspace.annotation(split) for split in ("test", "train"))
    return {
        "corpus": ({}, workspace.images("pool")),
        "ingest": ({"role": "pool", "source": str(root / "pictures")}, workspace.images("pool")),
        "descriptors": ({"role": "pool", "source": str(root / "a.h5")}, workspace.embeddings("pool", "a")),
        "edit": ({"role": "reference", "count": 1}, workspace.images("query")),
        "embed": ({"role": "pool"}, workspace.embeddings("pool", "efficientnet-lite0")),
        "mine": ({"split": "test"}, workspace.candidates("test")),
        "prelabel": ({"split": "test"}, workspace.candidates("test")),
        "recheck": ({"split": "train"}, workspace.candidates("train")),
        "push": ({"annotators": ("ann",)}, test),
        "leave": ({"annotator": "ann"}, test),
        "send-back": ({"annotator": "ann", "why": "x"}, test),
        "auto-clear": ({}, test),
        "pull": ({}, test),
        "relearn": ({"split": "train"}, train),
        "certify": ({}, test),
        "plan": ({}, test),
        "check": ({}, test),
        "forget": ({"annotator": "ann"}, test),
        "resolve": ({"split": "test"}, test),
        "export": ({"name": "a", "version": "1.0.0"}, workspace.manifest("a-1.0.0")),
        "fetch": ({"manifest": root / "m"}, root / "m"),
        "train-asl": ({"manifest": root, "name": "r"}, workspace.run("r")),
        "train-fused": ({"manifest": root}, workspace.run("fused")),
        "paper": ({"manifest": root, "figure": 6, "method": ("a=b",)}, workspace.report("figure6")),
        "benchmark": ({"manifest": root, "name": "b"}, workspace.report("b")),
        "league": ({"manifest": root}, workspace.report("league")),
        "export-results": ({"report": root / "b", "format": "csv"}, root / "b"),
    }


IN_A_STORE = Path("s3://bucket/bench")
WRITE_NOTHING = {"validate", "serve"}  # the server has a lock of its own: tests/annotation/test_data_lock.py


def test_every_verb_is_in_the_list_of_those_that_write_or_of_those_that_do_not(tmp_path: Path) -> None:
    assert writers(tmp_path).keys() | WRITE_NOTHING == COMMANDS.keys()


@pytest.mark.parametrize("verb", writers(Path()))
def test_a_verb_says_that_another_command_writes_its_output(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock comes first: while another holds the output, a verb says so before it looks at anything else."""
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    settings, output = writers(tmp_path)[verb]
    write_scenes(tmp_path / "pictures", 1)
    write_isc2021(tmp_path / "a.h5", ["p"], np.ones((1, 2)))
    for module in ("leave", "send_back"):  # they look for the server first
        monkeypatch.setattr(f"ndec_builder.annotation.{module}.connect_label_studio", lambda *_: None)
    (tmp_path / "annotation" / "test").mkdir(parents=True)
    (tmp_path / "annotation" / "test" / "tasks.parquet").touch()  # `forget` locks the splits that have tasks
    config_class = COMMANDS[verb].config_class()
    own = {"workspace": tmp_path} if "workspace" in config_class.__dataclass_fields__ else {}
    with locked(output), pytest.raises(NdecError, match=r"is writing .*; wait until it ends"):
        COMMANDS[verb].run(config_class(**own, **settings))


@pytest.mark.parametrize("verb", sorted(COMMANDS.keys() - {"validate", "fetch", "export-results"}))
def test_a_workspace_in_an_object_store_is_refused(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other three have no workspace, or only read one."""
    monkeypatch.chdir(tmp_path)
    settings = writers(tmp_path).get(verb, ({}, Path()))[0]
    config = COMMANDS[verb].config_class()(**settings | {"workspace": IN_A_STORE})
    with pytest.raises(UsageError, match=r"the workspace s3:/bucket/bench is a URI; .* Images may stay in an object"):
        COMMANDS[verb].run(config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ("export-results", "benchmark", "paper", "league"))
def test_an_output_in_an_object_store_is_refused_and_nothing_is_written(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = writers(tmp_path)[verb][0] | {"workspace": tmp_path, "out": IN_A_STORE}
    with pytest.raises(UsageError, match=r"the output s3:/bucket/bench is a URI; .*copy it to the store"):
        COMMANDS[verb].run(COMMANDS[verb].config_class()(**settings))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ("validate", "fetch"))
def test_a_dataset_in_an_object_store_is_refused(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"the (dataset|output) s3:/bucket/bench is a URI; .*copy it to"):
        COMMANDS[verb].run(COMMANDS[verb].config_class()(manifest=IN_A_STORE))
    assert not list(tmp_path.iterdir())
