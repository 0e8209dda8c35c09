"""`ndec status`: what is done in a workspace, the progress of a running verb, and the next command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ndec_builder.annotation.label_studio.server import running_state
from ndec_builder.annotation.records.given_labels import waiting_text
from ndec_builder.annotation.staleness import stale_results
from ndec_builder.annotation.status import unassigned_pairs, unassigned_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.cli.assist.next_steps import in_workspace
from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.progress import Progress, read_progress
from ndec_builder.core.locks import is_locked
from ndec_builder.core.schemas import ROLES, SPLITS
from ndec_builder.core.storage import read_json, read_table, sha256_file
from ndec_builder.core.vocabulary import FILE_SOURCE
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.diff import next_version

_PARTS = ("ndec.toml", "images", "candidates", "annotation", "embeddings", "manifests", "runs", "reports")


@dataclass(frozen=True)
class Stage:
    """One stage: whether its result exists, what it contains, and the command that makes it."""

    name: str
    done: bool
    text: str
    command: str
    progress: Progress | None = None  # of its unfinished run
    running: bool = False


def survey(root: Path) -> list[Stage]:
    """The state of every stage, in order. Raises NdecError when the directory does not exist or is no workspace."""
    if not root.is_dir():
        raise NdecError(f"the workspace {root} does not exist; `ndec init {root}` makes it")
    if not any((root / name).exists() for name in _PARTS):
        raise NdecError(
            f"{root.absolute()} is not a workspace: it has none of {', '.join(_PARTS)}. Change to the directory of "
            "your benchmark, give it with --workspace, or make a new one with `ndec init DIRECTORY`"
        )
    workspace = Workspace(root)
    stages = [_images(workspace, role) for role in ROLES]
    stages += [stage for role in ROLES for stage in _embeddings(root, role)]
    for split in SPLITS:
        stages += [
            _candidates(workspace, split),
            _labels(workspace, split),
            _table(
                f"decisions {split}",
                workspace.annotation(split) / "decisions.parquet",
                f"ndec annotate pull --split {split} && ndec annotate resolve --split {split}",
            ),
        ]
    stages = _out_of_date(stages, workspace)
    return [
        *stages,
        _datasets(workspace),
        _runs(root),
        _folders(
            "reports", root / "reports", "ndec benchmark --manifest DIR --model efficientnet-lite0", _report_facts
        ),
    ]


def _out_of_date(stages: list[Stage], workspace: Workspace) -> list[Stage]:
    """Stages whose result is older than its inputs count as not done; their text says why."""
    stale = {found.stage: found for found in stale_results(workspace)}
    for place, stage in enumerate(stages):
        if found := stale.get(stage.name):
            text = f"{stage.text}; OUT OF DATE: {found.result} {found.why}"
            stages[place] = replace(stage, done=not found.blocks, text=text, command=found.command)
    return stages


def status_report(stages: list[Stage], root: Path) -> str:
    width = max(len(stage.name) for stage in stages)
    lines = [f"{'done' if stage.done else '-':>5}  {stage.name:<{width}}  {stage.text}" for stage in stages]
    if command := first_open_step(stages, root):
        lines += ["", f"next: {command}"]
    return "\n".join(lines)


def first_open_step(stages: list[Stage], root: Path) -> str | None:
    """The command of the first stage that is not done; None while it is running, or when all are done."""
    # not everyone needs basic images and own queries; an empty workspace starts with basic, as the README does
    empty = not any(stage.done for stage in stages if stage.name.startswith("images "))
    optional = ("images query",) if empty else ("images basic", "images query")
    stages = sorted(stages, key=lambda stage: stage.name != "images basic") if empty else stages
    following = next((stage for stage in stages if not stage.done and stage.name not in optional), None)
    if following is None or following.running or (following.progress and following.progress.running):
        return None
    return in_workspace(following.command, root)


def status_as_dict(stages: list[Stage], root: Path) -> dict[str, Any]:
    """One JSON object: the stages, with the progress of unfinished runs, and the next command."""
    return {
        "workspace": str(root),
        "stages": [asdict(stage) for stage in stages],
        "next": first_open_step(stages, root),
    }


def _images(workspace: Workspace, role: str) -> Stage:
    return _table(f"images {role}", workspace.images(role), f"ndec ingest {role} FOLDER")


def _embeddings(root: Path, role: str) -> list[Stage]:
    """One stage for each model. Mining embeds what is missing, so nothing is listed without embeddings."""
    stages = []
    for directory in sorted((root / "embeddings" / role).glob("*/")):
        name, progress = f"embeddings {role} {directory.name}", read_progress(directory)
        command = f"ndec embed {role} --model "
        if progress is not None:
            command += progress.what.rpartition(" with ")[2]  # the folder's name lacks some characters
            stages.append(Stage(name, False, progress.text(), command, progress))
        elif (directory / "run.json").is_file():
            run = read_json(directory / "run.json")
            counts = run.get("counts", {})
            text = (
                f"{number_of(counts.get('embedded', 0), 'vector')}, {run.get('dim')}-d, "
                f"{counts.get('rejected', 0):,} rejected"
            )
            stages.append(Stage(name, True, text, command + run.get("config", {}).get("model", directory.name)))
    return stages


def _table(name: str, path: Path, command: str) -> Stage:
    if not path.is_file():
        return Stage(name, False, "", command)
    import pyarrow.parquet as pq

    try:
        return Stage(name, True, f"{number_of(pq.read_metadata(path).num_rows, 'row')}", command)
    except OSError as error:
        raise NdecError(f"{path} cannot be read ({error}); make it again with `{command}`") from None


def _candidates(workspace: Workspace, split: str) -> Stage:
    """How many pairs were mined, and how many of them nobody sees."""
    path = workspace.candidates(split) / "candidates.parquet"
    stage = _table(f"candidates {split}", path, f"ndec mine --split {split}")
    if (progress := read_progress(path.parent)) is not None:
        return replace(stage, done=False, text=f"{progress.what}: {progress.text()}", progress=progress)
    record = path.with_name("run.json")
    aside = read_json(record).get("counts", {}).get("duplicates", 0) if stage.done and record.is_file() else 0
    return replace(stage, text=f"{stage.text}, {number_of(aside, 'duplicate')} set aside") if aside else stage


def _labels(workspace: Workspace, split: str) -> Stage:
    """How many of the assigned pairs have a label, and whether Label Studio runs."""
    directory, push = workspace.annotation(split), f"ndec annotate push --split {split}"
    stage = _table(f"labels {split}", directory / "labels.parquet", push)
    tasks = directory / "tasks.parquet"
    if waiting := waiting_text(AnnotationTables(workspace, split)):
        return replace(stage, done=False, text=waiting[0], command=f"ndec annotate resolve --split {split}")
    if not tasks.is_file():
        return stage
    given = set(_column(tasks, "pair_id"))
    # neither withdrawn in Label Studio nor sent back
    tables = AnnotationTables(workspace, split)
    labels = tables.counting_labels
    had = set(labels["pair_id"].to_pylist())
    given -= tables.shown.removed - had  # nobody can label these
    labelled, open_ = len(had), len(given - had)
    names = set(
        labels["annotator"].to_pylist()
    )  # who was only given pairs, or has left without a label, is not counted
    files = sorted(name for name in names if name.startswith(FILE_SOURCE))
    people = [number_of(len(names) - len(files), "person", "people")] if len(names) > len(files) else []
    by = " and ".join([*people, ", ".join(files)] if files else people)
    text = f"{labelled:,} of {len(given):,} pairs labelled" + (f", by {by}" if by else "")
    unassigned = unassigned_text(tables)
    text = "; ".join([text, *unassigned])
    if open_:
        running = running_state(workspace.label_studio)
        text += "; Label Studio runs" if running else "; Label Studio does not run (`ndec annotate serve`)"
    # a certificate says that open pairs, and those that nobody got, may stay so
    done = stage.done and (not open_ or tables.certificate is not None)
    command = push if done else f"ndec annotate pull --split {split}"
    return Stage(stage.name, done and not unassigned_pairs(tables)[0], text, command)


def _column(path: Path, name: str) -> list[Any]:
    values: list[Any] = read_table(path, [name])[name].to_pylist()
    return values


def _folders(name: str, path: Path, command: str, facts: Callable[[Path], str] = lambda folder: "") -> Stage:
    names = sorted(p for p in path.glob("[!.]*/")) if path.is_dir() else []
    texts = [f"{folder.name} ({about})" if (about := facts(folder)) else folder.name for folder in names]
    return Stage(name, bool(names), ", ".join(texts), command)


def _runs(root: Path) -> Stage:
    """The training runs; not done while one is running, or if none is finished."""
    stage = _folders("runs", root / "runs", "ndec train-asl --manifest DIR", _run_facts)
    running = any(is_locked(folder) for folder in (root / "runs").glob("[!.]*/"))
    finished = any((root / "runs").glob("[!.]*/run.json"))
    return replace(stage, done=finished and not running, running=running)


def _datasets(workspace: Workspace) -> Stage:
    """The datasets; not done while the workspace has other decisions than the newest one: first comes the next version.

    Nothing is said about the versions before it.
    """
    folder = workspace.root / "manifests"
    newest = max(folder.glob("[!.]*/manifest.json"), key=os.path.getmtime, default=None)
    info = {} if newest is None else read_json(newest)
    changed = [
        split
        for split, about in info.get("lineage", {}).items()
        if (decisions := workspace.annotation(split) / "decisions.parquet").is_file()
        and about.get("decisions_sha256") not in (None, sha256_file(decisions))
    ]
    if newest is None or not changed:
        return _folders("manifests", folder, "ndec export")
    note = f"the decisions of split {changed[0]} have changed since: export the next version"
    version = next_version(str(info.get("version")), "minor")
    command = f"ndec export --name {shlex.quote(str(info.get('name')))} --version {version}"
    stage = _folders("manifests", folder, command, lambda one: note if one == newest.parent else "")
    return replace(stage, done=False)


def _run_facts(folder: Path) -> str:
    if is_locked(folder):
        return "running"
    return "" if (folder / "run.json").is_file() else "unfinished: run the same command again"


def _report_facts(folder: Path) -> str:
    """The main number with its interval; empty for a table or figure."""
    path = folder / "metrics.json"
    uap = read_json(path).get("uap", {}) if path.is_file() else {}
    if not isinstance(uap, dict) or uap.get("value") is None:
        return ""
    interval = f" [{uap['low']:.2f}, {uap['high']:.2f}]" if uap.get("low") is not None else ""
    return f"μAP {uap['value']:.2f}{interval}"
