"""A small labelling project on the fake Label Studio: its state before each command, and what the command must give.

All annotators here are simulated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from faults.syscalls import Call, Ended, Watched
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.records.ledger import APPEND_ONLY, chain_problem
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from support.fake_label_studio import TOKEN, FakeLabelStudio

# What may differ between two runs: times, numbers that the server gave, keys, run records, the history of the tables.
FREE_COLUMNS = {"seen_at", "at", "task", "project", "annotation", "state", "detail", "set_aside_at"}
RECORDS = (
    "run.json", "key.json", "secrets.json", "full-comparisons.json", "ledger.json", ".previous.parquet",
    "check.json", "image_key", "forgotten.json",
)  # fmt: skip
Summary = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A command, and the function that brings the bench to the state before it."""

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Bench], None]


class Bench:
    """One workspace at one path and one server; the states before each scene are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "bench"
        self.server = FakeLabelStudio()
        warm_up(self.server)
        os.environ |= {"LABEL_STUDIO_URL": self.server.url, "LABEL_STUDIO_API_KEY": TOKEN}
        self.before: dict[str, dict[str, Any]] = {}
        self.damaged: dict[str, list[str]] = {}  # what the scene begins with
        self.after: dict[str, Summary] = {}
        self.calls: dict[str, list[Call]] = {}
        self.requests: dict[str, list[str]] = {}

    def close(self) -> None:
        self.server.close()

    # commands

    def watched(
        self,
        arguments: Sequence[str],
        decide: Callable[[Call], int] = lambda _: 0,
        prepare: Callable[[], None] = lambda: None,
        log: str = "log.txt",
    ) -> Watched:
        """Start a command that stands still before each change of a file."""
        words = [*arguments, "--workspace", str(self.root)]
        return Watched(lambda: _command(words, prepare), self.root, self.folder / log, decide)

    def run(self, arguments: Sequence[str], decide: Callable[[Call], int] = lambda _: 0) -> Ended:
        process = self.watched(arguments, decide)
        self.server.client(process.pid)
        return process.wait()

    def must(self, *arguments: str) -> None:
        ended = self.run(arguments)
        if ended.code:
            raise AssertionError(f"ndec {' '.join(arguments)} ended with {ended.code}:\n{ended.text[-3000:]}")

    # states

    def keep(self, scene: Scene) -> None:
        """Prepare a scene, keep the state before it, run it without a fault and keep what it gives."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.server.reset()
        scene.prepare(self)
        shutil.copytree(self.root, self.folder / "before" / scene.name)
        self.before[scene.name], self.damaged[scene.name] = self.server.state(), self.damage()
        self.reset(scene)
        self.server.fail_at(0, "")
        ended = self.run(scene.arguments)
        if ended.code:
            raise AssertionError(f"{scene.name} ended with {ended.code}: {ended.text[-3000:]}")
        self.calls[scene.name], self.requests[scene.name] = ended.calls, self.server.requests()
        self.after[scene.name] = self.summary()

    def reset(self, scene: Scene) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.folder / "before" / scene.name, self.root)
        self.server.reset(self.before[scene.name])

    def summary(self) -> Summary:
        """All tables, files and stored tasks, without what may differ between two runs."""
        found: Summary = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if not path.is_file() or path.name.endswith(RECORDS) or ".building/" in name or _is_left(path):
                continue
            found[name] = _rows(path) if name.startswith("annotation/") and path.suffix == ".parquet" else _bytes(path)
        state = self.server.state()
        for number, project in sorted(state["projects"].items()):
            key = server_key(project).partition("/")[2]
            tasks = [task for task in state["tasks"].values() if task["project"] == number]
            shown = sorted((*_asked(task), _answers(task)) for task in tasks)
            found.setdefault(f"server {key}", []).append(shown)
        return found

    def fingerprint(self) -> str:
        """Equal for states from which a command must do the same: partial files by name only, times left out."""
        found: list[str] = []
        for path in sorted(self.root.rglob("*")):
            name = re.sub(r"-[0-9a-f]{8}-\d+-[0-9a-f]{8}(?=\.partial)", "", path.relative_to(self.root).as_posix())
            if path.is_dir() or ".partial" in path.name or path.suffix == ".lock":
                text = ""
            elif path.suffix == ".parquet" and name.startswith("annotation/"):
                text = str(pq.read_table(path, partitioning=None).drop_columns(_times(path)).to_pylist())
            elif path.suffix == ".json":
                text = re.sub(r'"(at|file|digest|started_at|seconds|key)": [^\n]*', "", path.read_text("utf-8"))
            else:
                text = sha256_file(path)
            found.append(f"{name} {text}")
        state = self.server.state()
        found.append(repr((state["projects"].keys(), state["last"], state["tasks"])))
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    def problems(self, wanted: Summary) -> list[str]:
        """What differs from `wanted`, and what must never be there."""
        left = [path.relative_to(self.root).as_posix() for path in leftovers(self.root)]
        return self.differences(wanted) + self.damage() + [f"left over: {name}" for name in left]

    def differences(self, wanted: Summary) -> list[str]:
        """Names of files and projects that differ from `wanted`; not what is left over."""
        found = self.summary()
        return [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]

    def damage(self) -> list[str]:
        """What must not even be there after a fault: a broken chain, doubled tasks, half a dataset."""
        found = []
        for split in ("test", "train"):
            directory = Workspace(self.root).annotation(split)
            found += [problem for name in APPEND_ONLY if (problem := chain_problem(directory, name))]
        for manifest in sorted((self.root / "manifests").glob("[!.]*")) if (self.root / "manifests").is_dir() else []:
            found += half_dataset(manifest)
        return found

    def doubled(self) -> list[str]:
        """Pairs with two tasks in one project, and assignees with two projects."""
        state, found = self.server.state(), []
        tasks = Counter((task["project"], *_asked(task)) for task in state["tasks"].values())
        found += [f"the pair {pair} has {count} tasks" for (_, pair, _), count in tasks.items() if count > 1]
        keys = Counter(server_key(project) for project in state["projects"].values())
        return found + [f"{count} projects {key!r}" for key, count in keys.items() if count > 1]

    # what simulated annotators do

    def project(self, annotator: str, round_: str = "first") -> int:
        """The annotator's project on the server; 0 without one."""
        ends = f"/{round_}/{annotator}"
        numbers = [n for n, p in self.server.state()["projects"].items() if server_key(p).endswith(ends)]
        return max(numbers, default=0)

    def pairs(self, annotator: str) -> list[str]:
        """Pairs of the tasks in the annotator's project, in the order in which they were imported."""
        number, state = self.project(annotator), self.server.state()
        return [t["data"]["pair_id"] for _, t in sorted(state["tasks"].items()) if t["project"] == number]

    def label(self, annotator: str, start: int, stop: int | None, choose: Callable[[str], str | None]) -> None:
        for pair in self.pairs(annotator)[start:stop]:
            self.server.label(self.project(annotator), pair, choose(pair))


def server_key(project: dict[str, Any]) -> str:
    """The key by which ndec finds a project: workspace/split/round/annotator."""
    return str(project["description"]).split("ndec-key: ")[1].split()[0]


def _command(words: list[str], prepare: Callable[[], None]) -> int:
    sys.argv = ["ndec", *words]
    prepare()
    from ndec_builder.cli import main

    try:
        main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


def _rows(path: Path) -> list[tuple[str, ...]]:
    """Rows in an order that does not depend on how many pulls wrote them; rows of one key stay in their order."""
    table = pq.read_table(path, partitioning=None)
    names = [name for name in table.column_names if name not in FREE_COLUMNS]
    rows = [tuple(str(row[name]) for name in names) for row in table.select(names).to_pylist()]
    if path.stem in ("labels", "skips"):
        place = [names.index(name) for name in ("pair_id", "round", "annotator")]
        return sorted(rows, key=lambda row: [row[number] for number in place])
    return sorted(rows)


def _times(path: Path) -> list[str]:
    return [name for name in pq.read_schema(path).names if name in ("seen_at", "set_aside_at")]


def _bytes(path: Path) -> str:
    if path.suffix == ".json" and path.parts[-3:-2] == ("annotation",):
        return json.dumps(json.loads(path.read_text("utf-8")), sort_keys=True)
    return sha256_file(path)


def _asked(task: dict[str, Any]) -> tuple[str, str]:
    """The pair of a task, and which of its pictures: a pair is asked again after one was replaced."""
    return task["data"]["pair_id"], task["data"].get("pictures", "")


def _answers(task: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((note["was_cancelled"], json.dumps(note["result"])) for note in task["annotations"])


def leftovers(root: Path) -> list[Path]:
    """Temporary files, locks and folders of unfinished work."""
    return [path for path in sorted(root.rglob("*")) if _is_left(path) or path.name.endswith(".building")]


def _is_left(path: Path) -> bool:
    return ".partial" in path.name or path.suffix == ".lock"


def half_dataset(directory: Path) -> list[str]:
    """Why a folder that looks like a dataset is none: every listed file must be there with its sha256."""
    path = directory / "manifest.json"
    if not path.is_file():
        return [f"{directory.name} has no manifest.json"]
    files = json.loads(path.read_text("utf-8"))["files"]
    wrong = [
        name
        for name, known in files.items()
        if not (directory / name).is_file() or sha256_file(directory / name) != known["sha256"]
    ]
    return [f"{directory.name} lacks {wrong[0]} ({len(wrong)} files)"] if wrong else []


def warm_up(server: FakeLabelStudio) -> None:
    """Import what the commands import, so that a forked one does not have to."""
    import logging

    import ndec_builder.annotation.send_back
    import ndec_builder.annotation.upkeep.check
    import ndec_builder.cli
    import ndec_builder.manifests.export  # noqa: F401

    logging.getLogger("httpx").setLevel(logging.WARNING)
    client = Connection(server.url, TOKEN, "").client()
    client.users.whoami()
    with contextlib.suppress(Exception):
        client.annotations.get(0)
    for part in (client.projects, client.tasks, client.actions):
        dir(part)
    list(client.projects.list())
    list(client.tasks.list(project=0))
