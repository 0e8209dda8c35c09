"""`ndec annotate forget`: no file of the workspace names the annotator any more, and no label is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.annotation import leave
from ndec_builder.annotation.records import ledger
from ndec_builder.annotation.settings import LeaveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import forget
from ndec_builder.annotation.upkeep.settings import ForgetConfig
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import INCIDENTS, LABEL_ROWS, SET_ASIDE, TASKS, table_of
from ndec_builder.core.storage import read_json, sha256_file, write_json
from ndec_builder.core.workspace import Workspace
from support.replaced_picture import Team, said

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Labels of alice (own login) and bob (a shared one), with incidents, records and a label that was sent back."""
    workspace = Workspace(tmp_path)
    tables = AnnotationTables(workspace, "test")
    people = {"alice": "alice@example.org", "bob": "team@example.org", "carl": "team@example.org"}
    given = [(f"p{n}", name) for n, name in enumerate(["alice", "alice", "bob", "carl"])]
    base = {"round": "first", "is_gold": False, "batch": 1}
    tables.write("tasks", table_of(TASKS, [base | {"pair_id": p, "annotator": a} for p, a in given]))
    rows: list[dict[str, Any]] = [
        base | {"pair_id": p, "annotator": a, "label": "unrelated", "login": people[a], "annotated_at": NOON}
        for p, a in given
    ]
    tables.write("labels", table_of(LABEL_ROWS, rows[:2]))
    tables.write("labels", table_of(LABEL_ROWS, rows))
    aside = {"pair_id": "p0", "round": "first", "annotator": "alice", "by": "bob", "why": "alice was tired, not malice"}
    tables.write("set_aside", table_of(SET_ASIDE, [aside]))
    incident = {"kind": "project_deleted", "annotator": "alice", "detail": "ndec bench test first alice"}
    tables.write("incidents", table_of(INCIDENTS, [incident]))
    inputs = {"labels.parquet": sha256_file(tables.directory / "labels.parquet")}
    record = {"config": {"annotators": ["alice", "bob"]}, "inputs": inputs, "flags": ["send-back alice --why TEXT"]}
    write_json(tables.directory / "run.json", record)
    write_json(tables.directory / "agreement.json", {"posterior": {"annotators": {"alice": 1, "bob": 2}}})
    return workspace


def texts(root: Path) -> str:
    """All bytes of all files; parquet columns in plain words as well."""
    found = ""
    for path in root.rglob("*"):
        if path.suffix == ".json":
            found += path.read_text("utf-8")
    tables = AnnotationTables(Workspace(root), "test")
    for name in ("tasks", "labels", "set_aside", "incidents"):
        found += str(getattr(tables, name).to_pylist())
    return found.replace("malice", "")


def test_the_name_and_the_login_are_gone_and_the_labels_stay(workspace: Workspace) -> None:
    record = read_json(forget.run(ForgetConfig(workspace.root, "alice", offline=True)))
    (entry,) = record
    found = texts(workspace.root)
    assert "alice" not in found and "alice@example.org" not in found
    labels = AnnotationTables(workspace, "test").labels
    assert labels["annotator"].to_pylist() == [entry["pseudonym"]] * 2 + ["bob", "carl"]
    assert labels["login"].to_pylist() == [None, None, "team@example.org", "team@example.org"]
    assert labels["label"].to_pylist() == ["unrelated"] * 4
    assert entry["rows"] == {"test/tasks": 2, "test/labels": 2, "test/set_aside": 1, "test/incidents": 1}


def test_other_words_and_people_stay(workspace: Workspace) -> None:
    forget.run(ForgetConfig(workspace.root, "alice", offline=True))
    (row,) = AnnotationTables(workspace, "test").set_aside.to_pylist()
    assert row["by"] == "bob" and row["why"].endswith("was tired, not malice")


def test_records_keep_matching_the_rewritten_tables(workspace: Workspace) -> None:
    directory = workspace.annotation("test")
    forget.run(ForgetConfig(workspace.root, "alice", offline=True))
    assert read_json(directory / "run.json")["inputs"]["labels.parquet"] == sha256_file(directory / "labels.parquet")
    assert all(ledger.chain_problem(directory, name) == "" for name in ledger.APPEND_ONLY)
    assert not list(directory.glob("*.previous.parquet"))  # an older generation has the name


def test_an_interrupted_run_is_finished_with_the_same_pseudonym(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, real = ForgetConfig(workspace.root, "alice", offline=True), forget.rewrite
    monkeypatch.setattr(forget, "rewrite", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        forget.run(config)
    monkeypatch.setattr(forget, "rewrite", real)
    with pytest.raises(NdecError, match="was interrupted"):
        forget.run(ForgetConfig(workspace.root, "bob", offline=True))
    forget.run(config)
    tables = AnnotationTables(workspace, "test")
    assert set(tables.labels["annotator"].to_pylist()) == set(tables.tasks["annotator"].to_pylist())
    assert "alice" not in texts(workspace.root)


def test_files_that_still_have_the_name_are_listed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(workspace.root / "manifests" / "x-1.0.0" / "manifest.json", {"labels": ["alice"]})
    forget.run(ForgetConfig(workspace.root, "alice", offline=True))
    assert "still named in manifests/x-1.0.0/manifest.json (1 ×)" in capsys.readouterr().err


def test_an_unknown_name_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NdecError, match=r"no table .* 'zoe'; there are: alice, bob, carl"):
        forget.run(ForgetConfig(workspace.root, "zoe", offline=True))


@pytest.mark.slow
def test_someone_who_did_not_leave_before(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """Open pairs stay in the renamed project, and a label given there later brings no login back."""
    team.push("alice", "ben")
    mine = team.open("alice")
    team.answer("alice", "unrelated", pairs=mine[:1])
    team.pull()
    assert set(team.tables.labels["login"].to_pylist()) != {None}
    capsys.readouterr()
    (entry,) = read_json(forget.run(ForgetConfig(team.workspace.root, "alice")))
    name = entry["pseudonym"]
    assert f"2 open pairs stay with {name}, in the renamed projects: `ndec annotate leave {name}`" in said(capsys)
    assert not [p for p in team.server.state()["projects"].values() if "alice" in str(p)]
    team.answer(name, "hard_negative", pairs=mine[1:2])
    leave.run(LeaveConfig(team.workspace.root, name))
    labels = team.tables.labels.to_pylist()
    assert [(row["annotator"], row["label"], row["login"]) for row in labels] == [
        (name, "unrelated", None), (name, "hard_negative", None),
    ]  # fmt: skip
    assert sorted(team.open("ben")) == sorted({*team.tables.tasks["pair_id"].to_pylist()} - {*mine[:2]})
