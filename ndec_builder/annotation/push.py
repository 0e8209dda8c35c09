"""`ndec annotate push | double-check | adjudicate`: assign pairs, then bring them to Label Studio."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation import held, projects
from ndec_builder.annotation.connection import Connection, connect, talking
from ndec_builder.annotation.handover import share_with_newcomers
from ndec_builder.annotation.imports import bring_up_to_date
from ndec_builder.annotation.labels import read_labels
from ndec_builder.annotation.policy import copy_probabilities, informative_first, posterior_of, uncertain
from ndec_builder.annotation.resolve import resolve
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tasks import assign, disputed_pairs, double_check_pairs, pairs_to_label
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
        labels = read_labels(workspace, config.split)
        new = _new_tasks(config, workspace, before, labels)
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


def _new_tasks(config: PushConfig, workspace: Workspace, tasks: pa.Table, labels: pa.Table) -> pa.Table:
    """Rows that this push adds to the tasks table."""
    candidates, load = _candidate_files(workspace, config.split), _open_load(config, tasks, labels)
    tables = [read_table(path) for path in candidates]
    pairs = pairs_to_label(tables)
    if config.round == "first":
        decided_file = workspace.annotation(config.split) / "decisions.parquet"
        decided: set[str] = set()
        if decided_file.is_file():
            table = read_table(decided_file, ["pair_id", "decision"])
            decided = set(table.filter(table["decision"].is_valid())["pair_id"].to_pylist())
        pairs = [pair for pair in pairs if pair[0] not in decided]
        if config.order == "informative":
            pairs = informative_first(pairs, copy_probabilities(tables))
        overlap = config.overlap if len(config.annotators) > 1 else 0.0
        return assign(
            pairs,
            "first",
            config.annotators,
            tasks=tasks,
            overlap=overlap,
            overlap_people=config.overlap_people,
            load=load,
        )
    if not labels.num_rows:
        raise NdecError(
            f"there is no label of the split {config.split!r} yet, so nothing to look at again; "
            f"label the first round, then run `ndec annotate pull --split {config.split}`"
        )
    seen_by: dict[str, set[str]] = defaultdict(set)
    for row in [*tasks.to_pylist(), *labels.to_pylist()]:
        if row["round"] != config.round:
            seen_by[row["pair_id"]].add(row["annotator"])
    if config.round == "double_check" and config.double_check == "uncertain":
        chosen = uncertain(*posterior_of(labels, copy_probabilities(tables)), config.tolerance)
    elif config.round == "double_check":
        chosen = double_check_pairs(labels, config.double_check)
    else:
        chosen = disputed_pairs(resolve(tasks, labels))
    pairs = [pair for pair in pairs if pair[0] in chosen]
    return assign(pairs, config.round, config.annotators, tasks=tasks, seen_by=seen_by, load=load)


def _open_load(config: PushConfig, tasks: pa.Table, labels: pa.Table) -> dict[str, int]:
    """Pairs that each person still has to label in this round."""
    done = set(zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
    columns = zip(*(tasks[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True)
    return dict(Counter(key[2] for key in columns if key[1] == config.round and key not in done))


def _hints(config: PushConfig, workspace: Workspace) -> dict[str, str]:
    """What the computer thinks of each pair, for the page; nothing unless it is switched on, since it biases people."""
    if not config.hints:
        return {}
    names = ["pair_id", "rank", "score", "prelabel", "prelabel_confidence"]
    hints = {}
    for path in _candidate_files(workspace, config.split):
        for row in read_table(path, names).to_pylist():
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
