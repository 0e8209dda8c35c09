"""How a long run is divided into shards, and which are done. All state is in files, so a kill loses little.

shards/<fingerprint>-<shard size>/    one plan; never changed: other inputs or another size get their own
    plan.json                         items, shard size, fingerprint, and the packages it was begun with
    shard-00007.*                     result of the work
    shard-00007.done.json             the marker: written last, with the sha256 of those files
    shard-00007.failed.json           failed: the error and the number of tries
    shard-00007.started               in progress in the process of the command itself
    progress.json                     for `ndec status`
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.machines import Machine, this_machine
from ndec_builder.core.storage import read_json, sha256_file, write_json


@dataclass(frozen=True)
class Shard:
    """A range of a stage's items: [start, stop)."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"shard-{self.index:05d}"

    @property
    def items(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """Cuts `items` into shards of `shard_size`. The fingerprint covers everything that the results depend on."""

    items: int
    shard_size: int
    fingerprint: str

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise UsageError(f"shard_size is {self.shard_size}; it must be at least 1")

    @property
    def shards(self) -> list[Shard]:
        starts = range(0, self.items, self.shard_size)
        return [Shard(index, start, min(start + self.shard_size, self.items)) for index, start in enumerate(starts)]

    @property
    def name(self) -> str:
        return f"{self.fingerprint[:16]}-{self.shard_size}"


@dataclass(frozen=True)
class Done:
    """The result of one shard: file name → sha256, and counts."""

    files: dict[str, str]
    counts: dict[str, int]


def plans_folder(output: Path) -> Path:
    """The folder of unfinished work for an output folder."""
    return output / "shards"


def open_plan(output: Path, plan: Plan) -> Path:
    """Return the folder of a plan, created on first use; plans for other inputs are removed.

    A plan for the same inputs with a different shard size is kept until the run is finished: with that size again, the
    run resumes.
    """
    folder = plans_folder(output) / plan.name
    for other in sorted(plans_folder(output).glob("*/")):
        if not other.name.startswith(plan.fingerprint[:16] + "-"):
            shutil.rmtree(other)
        elif other != folder and (done := len(list(other.glob("*.done.json")))):
            size = other.name.rpartition("-")[2]
            say(f"{number_of(done, 'shard')} of {size} are already done; --shard-size {size} would resume from them")
    wanted = {"items": plan.items, "shard_size": plan.shard_size, "fingerprint": plan.fingerprint}
    begun = _read(folder / "plan.json") if (folder / "plan.json").is_file() else {}
    if {name: begun.get(name) for name in wanted} != wanted:
        shutil.rmtree(folder, ignore_errors=True)  # markers without their plan are worthless
        write_json(folder / "plan.json", wanted | {"packages": this_machine().packages})
    return folder


def changed_packages(folder: Path) -> str:
    """Packages whose versions differ from those that a plan was begun with; empty if none, or if they are unknown."""
    begun = _read(folder / "plan.json").get("packages") if (folder / "plan.json").is_file() else None
    return this_machine().differences(Machine("", begun)) if begun else ""


def close_plans(output: Path) -> None:
    """Remove the work files of a finished run."""
    shutil.rmtree(plans_folder(output), ignore_errors=True)


def marker(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.name}.done.json"


def mark(folder: Path, plan: Plan, shard: Shard, done: Done) -> None:
    write_json(marker(folder, shard), _claim(plan, shard) | {"files": done.files, "counts": done.counts})


def finished(folder: Path, plan: Plan, shard: Shard) -> Done | None:
    """The result of an earlier run, if its marker matches and all its files exist."""
    if not marker(folder, shard).is_file():
        return None
    found = _read(marker(folder, shard))
    if {name: found.get(name) for name in ("fingerprint", "start", "stop")} != _claim(plan, shard):
        return None
    if not all((folder / name).is_file() for name in found["files"]):
        return None
    return Done(found["files"], found["counts"])


def check_files(folder: Path, shard: Shard, done: Done) -> None:
    """Raise NdecError if a file differs from its marker; the marker is deleted, so that a rerun redoes the shard."""
    for name, sha256 in done.files.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != sha256:
            marker(folder, shard).unlink(missing_ok=True)
            raise NdecError(
                f"{folder / name} has changed since it was written (a damaged disk?); run the same command again "
                "to redo this shard"
            )


def set_aside(folder: Path, shard: Shard, error: str, tries: int) -> None:
    write_json(folder / f"{shard.name}.failed.json", {"error": error, "tries": tries})


def clear_failures(folder: Path) -> None:
    for path in folder.glob("*.failed.json"):
        path.unlink()


def suspects(folder: Path) -> set[str]:
    """Names of shards that were in progress when the process of the command itself ended."""
    return {path.name.partition(".")[0] for path in folder.glob("*.started")}


def _claim(plan: Plan, shard: Shard) -> dict[str, Any]:
    return {"fingerprint": plan.fingerprint, "start": shard.start, "stop": shard.stop}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        value = read_json(path)
    except NdecError:
        return {}
    return value if isinstance(value, dict) else {}
