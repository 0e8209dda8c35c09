"""`push`, `pull` and `resolve` read each table once, unless it changed on disk; writing updates what is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ndec_builder.annotation import pull, push, resolve
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig, ResolveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import PRELABELS, TASKS, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all
from support.votes import labels_of, tasks_of

Counting = Callable[[], Any]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """`with counted() as reads`: how often each parquet file was read inside."""
    real = pq.read_table

    @contextmanager
    def count() -> Iterator[Counter[str]]:
        reads: Counter[str] = Counter()

        def read(source: Any, *args: Any, **options: Any) -> Any:
            reads[Path(source).name] += 1
            return real(source, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pq, "read_table", read)
            yield reads

    return count


@pytest.mark.parametrize("decide", ["agreement", "weighed"])
def test_resolve_reads_each_table_once(tmp_path: Path, counted: Counting, make_candidates: Any, decide: str) -> None:
    workspace = Workspace(tmp_path)
    make_candidates(workspace, count=6)
    pairs = read_table(workspace.candidates("test") / "candidates.parquet")["pair_id"].to_pylist()
    votes = [(pair, "first", name, "hard_negative") for pair in pairs for name in ("ann", "ben")]
    directory = workspace.annotation("test")
    rows = [{"pair_id": pair, "edited_copy": 0.1, "hard_negative": 0.8, "unrelated": 0.1} for pair in pairs]
    write_table(directory / "tasks.parquet", tasks_of(votes))
    write_table(directory / "labels.parquet", labels_of(votes))
    write_table(directory / "prelabels.parquet", table_of(PRELABELS, rows))
    with counted() as reads:
        resolve.run(ResolveConfig(tmp_path, decide=decide, posterior=True))
    once = ("candidates.parquet", "labels.parquet", "prelabels.parquet", "tasks.parquet")
    assert reads == dict.fromkeys(once, 1)


def test_a_written_table_is_not_read_again(tmp_path: Path, counted: Counting) -> None:
    tables = AnnotationTables(Workspace(tmp_path), "test")
    votes = [("p", "first", "ann", "unsure"), ("q", "first", "ann", "unsure")]
    with pytest.raises(NdecError, match="ndec annotate push --split test"):
        tables.require_tasks()
    assert tables.counting_labels.num_rows == 0
    with counted() as reads:
        tables.write("labels", labels_of(votes))
        tables.write("tasks", tasks_of(votes))
        assert (tables.labels.num_rows, tables.counting_labels.num_rows, tables.require_tasks().num_rows) == (2, 2, 2)
    assert not reads
    assert AnnotationTables(Workspace(tmp_path), "test").tasks.equals(tables.tasks)
    with pytest.raises(NdecError, match="push --split train"):
        AnnotationTables(Workspace(tmp_path), "train").require_tasks()


@pytest.mark.server
def test_push_and_pull_read_each_table_once(
    served: tuple[Workspace, Connection], counted: Counting, make_candidates: Any
) -> None:
    """With hints, gold and a new annotator: the push that needs the most tables."""
    workspace, connection = served
    make_candidates(workspace, count=24, size=(200, 150))
    options: dict[str, Any] = {"gold": 0.1, "hints": True, "image_url": connection.image_url}
    push.run(PushConfig(workspace.root, annotators=("ann",), **options))
    answer_all(workspace, "test", connection, lambda query, reference: "hard_negative", annotator="ann")
    tables = ("candidates.parquet", "gold.parquet", "labels.parquet", "project_tasks.parquet", "tasks.parquet")
    with counted() as reads:
        pull.run(PullConfig(workspace.root))
    # The rows of a project are then read by row group, which this does not count.
    assert reads == {"project_tasks.parquet": 1, "tasks.parquet": 1}
    make_candidates(workspace, count=40, size=(200, 150))
    push.run(PushConfig(workspace.root, annotators=("ann",), **options))
    with counted() as reads:
        push.run(PushConfig(workspace.root, annotators=("ann", "ben"), **options))
    assert {name: reads[name] for name in tables} == dict.fromkeys(tables, 1)
    assert set(reads.values()) == {1}, reads
    rows = read_table(workspace.annotation("test") / "tasks.parquet")
    assert rows.schema.equals(TASKS) and set(rows["annotator"].to_pylist()) == {"ann", "ben"}
