"""A pull keeps one page of Label Studio's records at a time, and no Python object per task after a project is done.

What it keeps is compact; the rows and the bytes of the files are those of the simple way.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation.label_studio import label_rows, projects
from ndec_builder.annotation.label_studio.annotations import Annotation, TaskAnswer
from ndec_builder.annotation.label_studio.label_rows import NewRows, answers_by_pair
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.server_snapshot import ServerSnapshot
from ndec_builder.annotation.label_tables import keys
from ndec_builder.annotation.records import table_store
from ndec_builder.annotation.records.label_file import LABELS_IN_MEMORY, label_parts
from ndec_builder.annotation.records.labels_by_annotator import LabelsByAnnotator
from ndec_builder.annotation.records.ledger import chain_problem, ledger
from ndec_builder.annotation.records.pairs_of_tasks import PairsOfTasks
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core import storage
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, PROJECT_TASKS, TASKS, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import labels_of

PAGE = 50
NAMES = ("ann", "ben")


class Task(SimpleNamespace):
    """A record of Label Studio; SimpleNamespace alone has no weak references."""

    __hash__ = object.__hash__


class Pages:
    """Label Studio's client for projects of labelled tasks. `most`: records that were alive at the same time."""

    def __init__(self, workspace: Workspace, pages: int) -> None:
        self.count, self.most = pages * PAGE, 0
        self.corrected: frozenset[int] = frozenset()
        self.alive: weakref.WeakSet[Task] = weakref.WeakSet()
        keyed = [f"ndec-key: {projects.project_key(workspace, 'test', 'first', name)}" for name in NAMES]
        self.listed = [
            SimpleNamespace(id=number, title=projects.project_title(workspace, "test", "first", NAMES[number]),
                            description=key, task_number=self.count, num_tasks_with_annotations=self.count,
                            label_config=projects.labelling_page(False))
            for number, key in enumerate(keyed)
        ]  # fmt: skip
        self.projects = SimpleNamespace(list=lambda **_: self.listed, get=lambda id: self.listed[id], update=self._note)
        self.users = SimpleNamespace(list=lambda: [SimpleNamespace(id=7, email="ann@x")])
        self.tasks = SimpleNamespace(list=self._tasks)

    def _note(self, id: int, description: str, **_: Any) -> None:
        self.listed[id].description = description

    def _tasks(self, project: int, **_: Any) -> Iterator[Task]:
        for start in range(0, self.count, PAGE):
            page = [self._task(project, number) for number in range(start, start + PAGE)]
            for task in page:
                self.alive.add(task)
            self.most = max(self.most, len(self.alive))
            yield from page

    def _task(self, project: int, number: int) -> Task:
        pair_id = f"{NAMES[project]}-{number}"
        label = LABELS[(number + (number in self.corrected)) % 4]
        value = {"from_name": "verdict", "value": {"choices": [label]}}
        note = {"id": number, "task": number, "result": [value], "updated_at": f"2026-11-29T12:{number % 60:02d}:00Z",
                "lead_time": 1.0, "completed_by": 7}  # fmt: skip
        data = {"pair_id": pair_id, "query": f"/pair/{pair_id}/query", "reference": f"/pair/{pair_id}/reference"}
        return Task(id=number, data=data, annotations=[note], total_annotations=1)


def pulled(root: Path, pages: int, *, compact: bool = False) -> tuple[Pages, AnnotationTables]:
    workspace = Workspace(root)
    write_json(root / "annotation" / "key.json", {"key": "k"})
    client = Pages(workspace, pages)
    rows = [
        {"pair_id": f"{name}-{number}", "round": "first", "annotator": name, "batch": 1, "is_gold": False}
        for name in NAMES
        for number in range(client.count)
    ]
    tables = AnnotationTables(workspace, "test", compact=compact)
    write_table(tables.directory / "tasks.parquet", table_of(TASKS, rows))
    connection: Any = SimpleNamespace(url="", client=lambda: client)
    counts, lost = pull_labels(tables, connection)
    assert (counts["new"], lost) == (len(NAMES) * client.count, [])
    return client, tables


@pytest.mark.slow
@pytest.mark.parametrize("pages", [3, 12])
def test_two_pages_at_most_are_in_memory(tmp_path: Path, pages: int) -> None:
    """The next page is made while the loop variable still holds a task of the one before."""
    gc.collect()
    client, _ = pulled(tmp_path, pages)
    assert client.most <= 2 * PAGE
    assert not client.alive


def test_every_label_is_in_the_table_once_sorted_by_time(tmp_path: Path) -> None:
    _, tables = pulled(tmp_path, 4)
    rows = tables.labels.to_pylist()
    wanted = {(f"{name}-{number}", name, LABELS[number % 4]) for name in NAMES for number in range(4 * PAGE)}
    assert {(row["pair_id"], row["annotator"], row["label"]) for row in rows} == wanted
    assert len(rows) == len(wanted)
    order = [(row["annotated_at"], row["round"], row["annotator"], row["pair_id"]) for row in rows]
    assert order == sorted(order)


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["first pull", "all of it compared again"])
def test_a_compact_pull_writes_the_same_files(tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (storage, table_store):
        monkeypatch.setattr(module, "GROUP_ROWS", 150)
    found = []
    for compact in (False, True):
        client, tables = pulled(tmp_path / str(compact), 4, compact=compact)
        if again:
            client.corrected = frozenset(range(0, 200, 7))
            connection: Any = SimpleNamespace(url="", client=lambda client=client: client)
            tables = AnnotationTables(tables.workspace, "test", compact=compact)
            counts, _ = pull_labels(tables, connection, everything=True)
            assert (counts["new"], counts["changed"]) == (0, 58)
        names = ("labels", "project_tasks") + again * ("incidents",)
        read = {name: read_table(tables.directory / f"{name}.parquet") for name in names}
        if again:
            read["incidents"] = read["incidents"].drop_columns("seen_at")
        found.append({name: (table.schema, table.to_pylist()) for name, table in read.items()})
        found[-1]["bytes"] = {name: sha256_file(tables.directory / f"{name}.parquet") for name in names[:2]}
        simple = write_table(tmp_path / "simple.parquet", read["labels"])
        assert found[-1]["bytes"]["labels"] == sha256_file(simple)
        assert chain_problem(tables.directory, "labels") == ""
        found[-1]["chain"] = [(e["rows"], e["digest"], e["columns"]) for e in ledger(tables.directory)["labels"]]
    assert found[0] == found[1]
    assert found[0]["labels"][0].equals(LABEL_ROWS, check_metadata=True)


_ANSWERS = st.lists(st.tuples(st.sampled_from(["p", "q", "r", None]), st.sampled_from([*LABELS, None])), max_size=12)


@given(_ANSWERS)
def test_answers_are_grouped_by_pair_in_the_order_of_the_first(given_: list[tuple[str | None, str | None]]) -> None:
    answers = {n: TaskAnswer(n, pair, Annotation(n, n, label, "", 1.0, 7)) for n, (pair, label) in enumerate(given_)}
    simple: dict[str | None, list[TaskAnswer]] = {}
    for one in answers.values():
        simple.setdefault(one.pair_id, []).append(one)
    assert list(answers_by_pair(answers)) == list(simple.items())
    assert not answers


@given(st.integers(0, 9), st.sampled_from([1, 2, 4, 100]))
def test_label_rows_that_became_tables_are_all_taken(count: int, at_once: int) -> None:
    rows = [
        {"pair_id": str(number), "round": "first", "annotator": "ann", "label": "unsure"} for number in range(count)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_rows, "_ROWS_AT_ONCE", at_once)
        new = NewRows()
        for row in rows:
            new.add_label(row)
        assert new.label_count == count and len(new.labels) < at_once
        assert new.take_labels().cast(LABEL_ROWS).equals(table_of(LABEL_ROWS, rows))


_STORED = st.lists(
    st.tuples(st.sampled_from("pq"), st.sampled_from(NAMES), st.sampled_from(["first", "audit"]), st.integers(0, 2))
)


@pytest.mark.slow
@given(_STORED, st.integers(1, 4), st.integers(0, 5))
def test_labels_in_parts_are_those_of_the_table(rows: list[tuple[Any, ...]], group: int, start: int) -> None:
    """Row groups of any size; the columns that older versions lack are added."""
    moments = [datetime(2026, 11, 1 + (7 * n) % 28, tzinfo=UTC) for n in range(len(rows))]
    given_ = [
        {"pair_id": p, "annotator": a, "round": r, "project": project, "annotated_at": moment}
        for (p, a, r, project), moment in zip(rows, moments, strict=True)
    ]
    table = table_of(LABEL_ROWS, given_)
    with TemporaryDirectory() as folder:
        pq.write_table(table.drop_columns("login"), Path(folder) / "labels.parquet", row_group_size=group)
        parts = [part.cast(LABEL_ROWS) for part in label_parts(Path(folder), start)]
        stored = LabelsByAnnotator(label_parts(Path(folder)))
    assert pa.concat_tables([LABEL_ROWS.empty_table(), *parts]).to_pylist() == table.slice(start).to_pylist()
    for name in NAMES:
        for round_ in ("first", "audit"):
            own = [row for row in table.to_pylist() if (row["annotator"], row["round"]) == (name, round_)]
            assert stored.of(round_, name).cast(LABEL_ROWS).to_pylist() == own
    assert stored.newest == {
        number: max(moment for (*_, project), moment in zip(rows, moments, strict=True) if project == number)
        for number in {project for *_, project in rows}
    }


def test_labels_whose_chunks_have_other_dictionaries_are_found_by_annotator(tmp_path: Path) -> None:
    """As after a pull in the same process: chunks of the file, and rows that came since."""
    tables = AnnotationTables(Workspace(tmp_path), "test")
    pulls = [[("p", "first", "ann", "unsure")], [("q", "first", "ben", "unsure"), ("p", "audit", "ben", "unsure")]]
    tables.write("labels", pa.concat_tables([labels_of(votes).cast(LABELS_IN_MEMORY) for votes in pulls]))
    found = LabelsByAnnotator(tables.label_parts())
    assert found.of("first", "ben")["pair_id"].to_pylist() == ["q"] and found.of("audit", "ann").num_rows == 0


_ROWS = st.lists(st.tuples(st.sampled_from(["p", "q", "rr", "é"]), st.sampled_from(NAMES), st.integers(0, 3)))


@pytest.mark.slow
@given(_ROWS)
def test_a_pair_is_found_with_its_own_row_first_and_else_with_the_first_of_the_split(
    rows: list[tuple[str, str, int]],
) -> None:
    tasks = table_of(
        TASKS,
        [{"pair_id": p, "round": "first", "annotator": a, "batch": b, "is_gold": b == 0} for p, a, b in rows],
    )
    assigned = PairsOfTasks(tasks)
    assert assigned.assignees() == sorted({("first", annotator) for _, annotator, _ in rows})
    for name in NAMES:
        known = assigned.of("first", name)
        for pair in ("p", "q", "rr", "é", "r", "", "zz"):
            own = [batch for p, a, batch in rows if (p, a) == (pair, name)]
            every = [batch for p, _, batch in rows if p == pair]
            wanted = own[-1] if own else every[0] if every else None
            assert (pair in known) == (wanted is not None)
            if wanted is not None:
                assert known[pair] == {"is_gold": wanted == 0, "batch": wanted}


@pytest.mark.slow
@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 20)), st.sampled_from("abc"), max_size=30))
def test_a_snapshot_survives_closing_and_opening_its_projects(rows: dict[tuple[int, int], str]) -> None:
    tables = AnnotationTables(Workspace(Path("nowhere")), "test")
    snapshot = ServerSnapshot(tables)
    written: list[Any] = []
    tables.write = lambda name, table: written.append((name, table))  # type: ignore[assignment,method-assign,func-returns-value]
    for (project, task), pair_id in rows.items():
        snapshot.add_task(("first", f"annotator-{project}"), project, task, pair_id)
        snapshot.close(project)
    assert {p for n in range(4) for p in snapshot.projects_of(("first", f"annotator-{n}"))} == {p for p, _ in rows}
    snapshot.write()
    ((name, table),) = written
    assert name == "project_tasks" and table.schema.equals(PROJECT_TASKS)
    found = list(keys(table, "project", "task", "pair_id"))
    assert found == [(project, task, pair_id) for (project, task), pair_id in sorted(rows.items())]
    tables.project_tasks = table
    assert {p: sorted(ServerSnapshot(tables).tasks_of(p)) for p, _ in rows} == {
        p: sorted(task for q, task in rows if q == p) for p, _ in rows
    }
