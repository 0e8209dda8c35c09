"""The append-only tables: what is missing, shorter or changed is an error; the previous generation stays."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation.records import ledger
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import check
from ndec_builder.annotation.upkeep.settings import CheckConfig
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LABEL_ROWS, PROJECT_TASKS, TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace


def labels(count: int, label: str = "unsure") -> pa.Table:
    return table_of(LABEL_ROWS, [{"pair_id": f"p{n}", "label": label, "seconds": n / 7} for n in range(count)])


@pytest.fixture
def three_generations(tmp_path: Path) -> AnnotationTables:
    """Labels written three times: 2, 5 and 6 rows."""
    tables = AnnotationTables(Workspace(tmp_path), "test")
    for count in (2, 5, 6):
        tables.write("labels", labels(count))
    return tables


def fresh(tables: AnnotationTables) -> AnnotationTables:
    return AnnotationTables(tables.workspace, "test")


def test_each_generation_is_recorded_and_the_previous_file_stays(three_generations: AnnotationTables) -> None:
    directory = three_generations.directory
    chain = ledger.ledger(directory)["labels"]
    assert [(entry["generation"], entry["rows"]) for entry in chain] == [(1, 2), (2, 5), (3, 6)]
    assert read_table(directory / "labels.previous.parquet").equals(labels(5))
    assert fresh(three_generations).labels.equals(labels(6))
    three_generations.write("labels", labels(6))  # nothing new: no generation
    assert len(ledger.ledger(directory)["labels"]) == 3


def test_a_kill_before_a_generation_is_written_leaves_no_temporary_name(three_generations: AnnotationTables) -> None:
    """The previous name was given already: renaming one hard link to another link of the same file does nothing."""
    directory = three_generations.directory
    ledger._keep_previous(directory / "labels.parquet")  # then the process is killed
    three_generations.write("labels", labels(7))
    assert not [*directory.glob(".*")]
    assert read_table(directory / "labels.previous.parquet").equals(labels(6))


def test_a_missing_table_is_an_error_and_not_zero_labels(three_generations: AnnotationTables) -> None:
    (three_generations.directory / "labels.parquet").unlink()
    with pytest.raises(NdecError, match=r"is missing, but .* 6 rows; .* labels\.previous\.parquet, .* pull --all"):
        _ = fresh(three_generations).labels


def test_a_shorter_table_is_an_error(three_generations: AnnotationTables) -> None:
    write_table(three_generations.directory / "labels.parquet", labels(4))
    with pytest.raises(NdecError, match=r"has 4 rows, but ledger\.json records 6"):
        _ = fresh(three_generations).counting_labels


def test_a_changed_row_is_an_error_that_names_the_generation(three_generations: AnnotationTables) -> None:
    rows: list[dict[str, Any]] = labels(6).to_pylist()
    rows[3]["label"] = "edited_copy"
    write_table(three_generations.directory / "labels.parquet", table_of(LABEL_ROWS, rows))
    with pytest.raises(NdecError, match="rows 2 to 4 are not those that were written"):
        _ = fresh(three_generations).labels


def test_rows_that_a_killed_process_wrote_without_its_entry_are_kept(three_generations: AnnotationTables) -> None:
    write_table(three_generations.directory / "labels.parquet", labels(8))
    tables = fresh(three_generations)
    assert tables.labels.num_rows == 8
    tables.write("labels", labels(9))
    assert [entry["rows"] for entry in ledger.ledger(tables.directory)["labels"]] == [2, 5, 6, 9]
    assert ledger.chain_problem(tables.directory, "labels") == ""


def test_a_write_never_loses_rows(three_generations: AnnotationTables) -> None:
    with pytest.raises(NdecError, match="would lose rows"):
        three_generations.write("labels", labels(3))


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
def test_any_changed_row_is_found(steps: list[int], data: st.DataObject) -> None:
    directory = Path(tempfile.mkdtemp())
    total = 0
    for step in steps:
        total += step
        ledger.append(directory, "labels", labels(total))
    assert ledger.chain_problem(directory, "labels") == ""
    if total:
        rows = labels(total).to_pylist()
        rows[data.draw(st.integers(0, total - 1))]["label"] = "edited_copy"
        write_table(directory / "labels.parquet", table_of(LABEL_ROWS, rows))
        assert "was changed" in ledger.chain_problem(directory, "labels")


def test_check_reports_a_damaged_chain(
    three_generations: AnnotationTables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    tables = three_generations
    tables.write("tasks", table_of(TASKS, [{"pair_id": "p0", "round": "first", "annotator": "ann"}]))
    config = CheckConfig(tables.workspace.root)
    assert read_json(check.run(config))["problems"] == []
    said = capsys.readouterr().err
    assert "labels: 6 rows in 3 generations" in said and "not compared with Label Studio" in said
    write_table(tables.directory / "labels.parquet", labels(6, "unrelated"))
    with pytest.raises(NdecError, match="was changed"):
        check.run(config)
    assert len(read_json(tables.directory / "check.json")["problems"]) == 1


def test_a_workspace_of_an_older_version_is_read_and_gets_a_chain(tmp_path: Path) -> None:
    """Without a ledger, and with a table of tasks on the server that has no column `state`."""
    workspace = Workspace(tmp_path)
    directory = workspace.annotation("test")
    write_table(directory / "labels.parquet", labels(3))
    row = {"round": "first", "annotator": "ann", "project": 1, "task": 7, "pair_id": "p0"}
    write_table(directory / "project_tasks.parquet", table_of(PROJECT_TASKS, [row]).drop_columns(["state"]))
    tables = AnnotationTables(workspace, "test")
    assert tables.labels.num_rows == 3 and tables.project_tasks["state"].to_pylist() == [None]
    tables.write("labels", labels(4))
    assert [entry["rows"] for entry in ledger.ledger(directory)["labels"]] == [4]
    (directory / "labels.parquet").unlink()
    with pytest.raises(NdecError, match=r"is missing, but ledger\.json records 4 rows"):
        _ = fresh(tables).labels
