"""`ndec annotate push | double-check | adjudicate | audit`: assign pairs, then bring them to Label Studio."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation import held, projects
from ndec_builder.annotation.connection import Connection, connect, talking
from ndec_builder.annotation.handover import share_with_newcomers
from ndec_builder.annotation.imports import bring_up_to_date
from ndec_builder.annotation.labels import candidate_tables, read_labels, read_set_aside
from ndec_builder.annotation.planning import new_tasks
from ndec_builder.annotation.policy import AUDIT_ROUND
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import TASKS, conform, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1


def run(config: PushConfig) -> Path:
    """Write tasks.parquet, make the projects and import what is missing in them; returns the path of the table.

    The table comes first and the import brings Label Studio to it: killed anywhere, the same command finishes the work
    and no pair is there twice. Raises NdecError without candidates or server, or when nobody may look at a pair.
    """
    record = RunRecord("annotate push", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    path = directory / "tasks.parquet"
    with locked(directory):
        before = conform(read_table(path), TASKS) if path.is_file() else table_of(TASKS, [])
        _candidate_files(workspace, config.split)  # says what to do where there are none
        tables = candidate_tables(workspace, config.split)
        labels, set_aside = read_labels(workspace, config.split), read_set_aside(workspace, config.split)
        new = new_tasks(config, tables, before, labels, set_aside)
        connection = connect(workspace, config.url, config.token_file, config.image_url)
        tasks = pa.concat_tables([before, new])
        write_table(path, tasks)
        tasks = share_with_newcomers(config, workspace, connection, tasks)
        labels, hints = read_labels(workspace, config.split), _hints(config, workspace)
        imported = bring_up_to_date(
            workspace, config.split, config.round, connection, tasks, labels, config.chunk, hints
        )
        held.end_handover(directory)
        raters = set(zip(tasks["round"].to_pylist(), tasks["annotator"].to_pylist(), strict=True))
        annotators = sorted(annotator for round_, annotator in raters if round_ == config.round)
        where = _addresses(config, workspace, connection, annotators)
    say(f"{config.round} round of {config.split}: {new.num_rows} new tasks, {imported} sent to {connection.url}")
    for line in where:
        say(line)
    counts = {"tasks": tasks.num_rows, "new": new.num_rows, "imported": imported, "annotators": len(annotators)}
    record.write(directory, counts=counts, inputs=_inputs(workspace, config.split))
    return path


def _hints(config: PushConfig, workspace: Workspace) -> dict[str, str]:
    """What the computer thinks of each pair, for the page; nothing unless it is switched on, since it biases people."""
    if not config.hints or config.round == AUDIT_ROUND:  # the audit is the check on all of it
        return {}
    names = ["pair_id", "rank", "score", "prelabel", "prelabel_confidence"]
    hints = {}
    for table in candidate_tables(workspace, config.split):
        for row in table.select(names).to_pylist():
            thought = f" · {row['prelabel']} ({row['prelabel_confidence']:.0%})" if row["prelabel"] else ""
            hints[row["pair_id"]] = f"rank {row['rank']} · similarity {row['score']:.3f}{thought}"
    return hints


def _addresses(config: PushConfig, workspace: Workspace, connection: Connection, annotators: list[str]) -> list[str]:
    """Where each annotator labels."""
    with talking(connection, "looking for ndec's projects"):
        there = projects.find_projects(connection.client())
    keys = {name: projects.project_key(workspace, config.split, config.round, name) for name in annotators}
    return [
        f"{name}: {connection.url}/projects/{there[key].id}/data?labeling=1"
        for name, key in keys.items()
        if key in there
    ]


def _candidate_files(workspace: Workspace, split: str) -> list[Path]:
    first = workspace.candidates(split) / "candidates.parquet"
    if not first.is_file():
        raise NdecError(
            f"there are no candidates of the split {split!r} yet ({first} does not exist); "
            f"run `ndec mine --split {split} --workspace {workspace.root}` first"
        )
    recheck = workspace.candidates(split) / "recheck.parquet"
    return [first, recheck] if recheck.is_file() else [first]


def _inputs(workspace: Workspace, split: str) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in _candidate_files(workspace, split)}
