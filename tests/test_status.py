"""`ndec status` of a whole workspace: what is done, how far people are, the numbers of the reports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ndec_builder.cli.assist.next_steps import in_workspace
from ndec_builder.cli.assist.status import Stage, first_open_step, survey
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.locks import locked
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, LABEL_ROWS, SET_ASIDE, SKIPS, SPLITS, TASKS, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.decided_world import make_world


def text_of(root: Path, name: str) -> str:
    return next(stage.text for stage in survey(root) if stage.name == name)


def test_labels_are_counted_against_what_was_given_out(tmp_path: Path) -> None:
    directory = Workspace(tmp_path).annotation("test")
    tasks = [{"pair_id": pair, "annotator": who} for pair, who in (("a", "ann"), ("a", "ben"), ("b", "ben"))]
    write_table(directory / "tasks.parquet", table_of(TASKS, tasks))
    said = text_of(tmp_path, "labels test")
    assert said == "0 of 2 pairs labelled; Label Studio does not run (`ndec annotate serve`)"
    label = {"pair_id": "a", "round": "first", "annotator": "ann", "label": "unrelated"}
    write_table(directory / "labels.parquet", table_of(LABEL_ROWS, [label]))
    assert text_of(tmp_path, "labels test").startswith("1 of 2 pairs labelled, by 1 person; ")
    write_table(directory / "labels.parquet", table_of(LABEL_ROWS, [label, label | {"pair_id": "b"}]))
    assert text_of(tmp_path, "labels test") == "2 of 2 pairs labelled, by 1 person"
    write_table(directory / "labels.parquet", table_of(LABEL_ROWS, [label, label | {"annotator": "ben"}]))
    assert text_of(tmp_path, "labels test").startswith("1 of 2 pairs labelled, by 2 people; ")
    assert first_open_step(survey(tmp_path), tmp_path) == f"ndec ingest basic FOLDER --workspace {tmp_path}"


def test_the_next_step_is_pull_while_given_pairs_have_no_label(tmp_path: Path) -> None:
    directory = Workspace(tmp_path).annotation("test")
    rows = [{"pair_id": pair, "round": "first", "annotator": "ann"} for pair in "ab"]
    write_table(directory / "labels.parquet", table_of(LABEL_ROWS, [row | {"label": "unrelated"} for row in rows]))

    def after(tasks: list[dict[str, str]]) -> Stage:
        write_table(directory / "tasks.parquet", table_of(TASKS, tasks))
        return next(stage for stage in survey(tmp_path) if stage.name == "labels test")

    assert after(rows).done
    open_ = [*rows, rows[0] | {"pair_id": "c"}]
    assert not after(open_).done and after(open_).command == "ndec annotate pull --split test"
    write_json(directory / "certificate.json", {"to_label": []})  # says that the open pair needs no label
    assert after(open_).done


def test_training_pairs_are_not_next_while_nobody_got_some_of_the_test_pairs(tmp_path: Path) -> None:
    """Two pairs are mined; one is given out, labelled and decided. The other one goes to people first."""
    workspace = Workspace(tmp_path)
    directory = workspace.annotation("test")
    mined = [{"pair_id": pair, "query_id": pair, "reference_id": "r"} for pair in "ab"]
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, mined))
    row = {"pair_id": "a", "round": "first", "annotator": "ann", "query_id": "a", "reference_id": "r"}

    def following(given: str) -> str | None:
        rows = [row | {"pair_id": pair} for pair in given]
        write_table(directory / "tasks.parquet", table_of(TASKS, rows))
        labels = [{name: one[name] for name in ("pair_id", "round", "annotator")} for one in rows]
        write_table(directory / "labels.parquet", table_of(LABEL_ROWS, [one | {"label": "unsure"} for one in labels]))
        write_table(directory / "decisions.parquet", table_of(DECISIONS, [{"pair_id": pair} for pair in given]))
        return first_open_step([stage for stage in survey(tmp_path) if stage.name.split()[-1] in SPLITS], tmp_path)

    assert following("a") == f"ndec annotate push --split test --workspace {tmp_path}"
    assert following("ab") == f"ndec mine --split train --workspace {tmp_path}"


def test_withdrawn_and_returned_labels_are_not_counted(tmp_path: Path) -> None:
    directory = Workspace(tmp_path).annotation("test")
    who = {"round": "first", "annotator": "ann"}
    rows = [{"pair_id": pair, **who} for pair in "abcd"]
    write_table(directory / "tasks.parquet", table_of(TASKS, rows))
    write_table(directory / "labels.parquet", table_of(LABEL_ROWS, [row | {"label": "unrelated"} for row in rows]))
    skips = [rows[0] | {"kind": "skipped", "label_rows": 1}, rows[1] | {"kind": "deleted", "label_rows": 1}]
    write_table(directory / "skips.parquet", table_of(SKIPS, skips))
    write_table(directory / "set_aside.parquet", table_of(SET_ASIDE, [rows[2]]))
    assert text_of(tmp_path, "labels test").startswith("1 of 4 pairs labelled, by 1 person; ")


def test_results_older_than_their_inputs_are_out_of_date(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    root, directory = world.workspace.root, world.workspace.annotation("test")
    record = {"stage": "annotate resolve", "inputs": {"labels.parquet": sha256_file(directory / "labels.parquet")}}
    write_json(directory / "resolve.run.json", record)
    done = {stage.name for stage in survey(root) if stage.done}
    assert {"candidates test", "decisions test"} <= done and "OUT OF DATE" not in str(survey(root))
    decisions = (directory / "decisions.parquet").read_bytes()
    world.decide("test", {("p-hard", "r1"): "edited_copy"})
    (directory / "decisions.parquet").write_bytes(decisions)
    assert text_of(root, "decisions test").endswith(
        "OUT OF DATE: the decisions of split test are older than its labels"
    )
    stages = [stage for stage in survey(root) if not stage.name.startswith(("images", "embeddings"))]
    assert first_open_step(stages, root) == f"ndec annotate resolve --split test --workspace {root}"


def test_reports_show_their_number_and_unfinished_runs_are_named(tmp_path: Path) -> None:
    for name, uap in (("a", {"value": 0.5, "low": 0.41, "high": 0.6}), ("b", {"value": 1.0, "low": None})):
        write_json(tmp_path / "reports" / name / "metrics.json", {"uap": uap})
    (tmp_path / "reports" / "figure-6").mkdir()
    assert text_of(tmp_path, "reports") == "a (μAP 0.50 [0.41, 0.60]), b (μAP 1.00), figure-6"
    (tmp_path / "runs" / "asl").mkdir(parents=True)
    assert text_of(tmp_path, "runs") == "asl (unfinished: run the same command again)"
    write_json(tmp_path / "runs" / "asl" / "run.json", {})
    assert text_of(tmp_path, "runs") == "asl"


def test_every_command_of_a_line_gets_the_workspace() -> None:
    assert in_workspace("ndec a && ndec b", Path("my bench")) == (
        "ndec a --workspace 'my bench' && ndec b --workspace 'my bench'"
    )
    assert in_workspace("ndec status; look at x", Path("w")) == "ndec status --workspace w; look at x"
    assert in_workspace("ndec status", Path()) == "ndec status"


def test_a_running_training_is_shown_as_running(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "asl"
    folder.mkdir(parents=True)
    with locked(folder):
        assert text_of(tmp_path, "runs") == "asl (running)"
    assert text_of(tmp_path, "runs") == "asl (unfinished: run the same command again)"


def test_nothing_is_next_while_a_training_runs(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "asl"
    write_json(tmp_path / "runs" / "before" / "run.json", {})
    folder.mkdir(parents=True)
    stages = [stage for stage in survey(tmp_path) if stage.name in ("runs", "reports")]
    assert str(first_open_step(stages, Path())).startswith("ndec benchmark")
    with locked(folder):
        stages = [stage for stage in survey(tmp_path) if stage.name in ("runs", "reports")]
        assert first_open_step(stages, Path()) is None


def test_a_directory_that_is_no_workspace_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(NdecError, match=r"is not a workspace: it has none of ndec\.toml, images,.*--workspace"):
        survey(tmp_path)
    (tmp_path / "ndec.toml").touch()
    assert first_open_step(survey(tmp_path), tmp_path) == f"ndec ingest basic FOLDER --workspace {tmp_path}"


def test_an_unfinished_search_is_shown_with_its_shards(tmp_path: Path) -> None:
    plan = Plan(4, 2, "f" * 64)
    folder = open_plan(Workspace(tmp_path).candidates("test") / "search" / "mark" / "round-01", plan)

    def work(shard: Shard) -> Outcome:
        if shard.index == 1:
            raise KeyboardInterrupt
        (folder / "out").write_text("x")
        return Outcome(("out",), {})

    with pytest.raises(KeyboardInterrupt):
        run_shards(folder, plan, work, Engine(here=True), what="searching", unit="images")
    assert text_of(tmp_path, "candidates test") == "searching: stopped; 1 shard done, 0 failed, 1 left"


def test_only_the_newest_dataset_is_compared_with_the_decisions(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    root, decisions = world.workspace.root, world.workspace.annotation("test") / "decisions.parquet"
    for number, version in enumerate(("1.0.0", "2.0.0")):
        digest = sha256_file(decisions) if version == "2.0.0" else "0" * 64
        manifest = root / "manifests" / f"b-{version}" / "manifest.json"
        about = {"name": "b", "version": version, "lineage": {"test": {"decisions_sha256": digest}}}
        write_json(manifest, about)
        os.utime(manifest, (1e9 + number, 1e9 + number))
    assert text_of(root, "manifests") == "b-1.0.0, b-2.0.0"
    late = ("manifests", "runs")
    stages = [stage for stage in survey(root) if stage.name in late]
    assert str(first_open_step(stages, Path())).startswith("ndec train-asl")
    world.decide("test", {("p-hard", "r1"): "edited_copy"})
    changed = "the decisions of split test have changed since: export the next version"
    assert text_of(root, "manifests") == f"b-1.0.0, b-2.0.0 ({changed})"
    stages = [stage for stage in survey(root) if stage.name in late]  # no training on labels that do not hold any more
    assert first_open_step(stages, Path()) == "ndec export --name b --version 2.1.0"
