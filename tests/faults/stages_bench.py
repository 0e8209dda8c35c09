"""The stages of the demo on a small workspace: before and after each, and what a killed run must give."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults.forked import Command, Ended
from faults.small_bench import take_pictures
from ndec_builder.core.storage import sha256_file

# What may differ: run records, data of this Label Studio (random passwords and keys included), the state that training
# resumes from, and the history of append-only tables: a killed pull may have written one generation before the next.
RECORDS = (
    "run.json", "inputs.json", "metrics.jsonl", "progress.json", "key.json", "project_tasks.parquet", "secrets.json",
    "accounts.json", "full-comparisons.json", "ledger.json", ".previous.parquet",
)  # fmt: skip
SETTINGS = """
[embed]
threads = 1
whitening_images = 32
[train]
views = 3
identities = 8
pairs = 4
dim = 16
save_every = 8
threads = 1
[benchmark]
replicates = 100
"""


@dataclass(frozen=True)
class Stage:
    """A command line without its workspace. killed: it is one of the stages of the table, else it only prepares."""

    name: str
    arguments: tuple[str, ...]
    killed: bool = True


@dataclass
class Tally:
    """What happened to one stage."""

    by_time: int = 0
    by_change: int = 0
    ended_before: int = 0
    runs: int = 0
    same: int = 0
    left: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.by_time + self.by_change


def stages(pictures: Path, manifest: str) -> list[Stage]:
    people = ("--annotator", "ann", "--annotator", "ben", "--overlap", "0.5")

    def prepare(*arguments: str) -> Stage:
        return Stage(" ".join(arguments[:3]), arguments, killed=False)

    def label(split: str) -> Stage:
        return Stage("label", (split,), killed=False)

    return [
        prepare("ingest", "reference", str(pictures / "reference")),
        prepare("ingest", "basic", str(pictures / "basic")),
        Stage("ingest", ("ingest", "pool", str(pictures / "pool"))),
        Stage("edit", ("edit", "--count", "12")),
        prepare("embed", "reference", "--workers", "1"),
        Stage("embed", ("embed", "pool", "--workers", "1", "--shard-size", "24")),
        Stage("mine", ("mine", "--top", "12", "--workers", "1")),
        Stage("push", ("annotate", "push", *people)),
        label("test"),
        Stage("pull", ("annotate", "pull")),
        Stage("resolve", ("annotate", "resolve")),
        prepare("annotate", "recheck"),
        prepare("annotate", "push", *people),
        label("test"),
        prepare("annotate", "pull"),
        prepare("annotate", "resolve"),
        prepare("mine", "--split", "train", "--top", "10", "--workers", "1"),
        prepare("annotate", "push", "--split", "train", *people),
        label("train"),
        prepare("annotate", "pull", "--split", "train"),
        prepare("annotate", "resolve", "--split", "train"),
        Stage("export", ("export", "--name", "small", "--distractors", "8", "--materialize", "tar")),
        Stage("train-asl", ("train-asl", "--manifest", manifest, "--steps", "24")),
        Stage("benchmark", ("benchmark", "--manifest", manifest, "--model", "efficientnet-lite0")),
    ]


class Bench:
    """The workspace, always at the same path, and what it was before and after each stage."""

    def __init__(self, folder: Path, demo: Path | None, size: int, seed: int) -> None:
        self.folder, self.root, self.log = folder, folder / "bench", folder / "log.txt"
        self.pictures = take_pictures(folder / "in", demo, references=size, basic=size, pool=2 * size)
        self.stages = stages(self.pictures, str(self.root / "manifests" / "small-1.0.0"))
        self.chance = random.Random(seed)
        self.after: dict[str, dict[str, str]] = {}
        self.usual: dict[str, Ended] = {}

    def start(self, stage: Stage, die_at: int = -1) -> Command:
        return Command([*stage.arguments, "--workspace", str(self.root)], self.log, die_at=die_at)

    def finish(self, stage: Stage) -> Ended:
        ended = self.start(stage).wait()
        if ended.code:
            raise SystemExit(f"{stage.name} ended with {ended.code}:\n{self.log.read_text('utf-8', 'replace')[-3000:]}")
        return ended

    def run_whole(self, wanted: set[str]) -> None:
        """Every stage once, uninterrupted; keeps the workspace before it and the hashes after it."""
        self.root.mkdir()
        (self.root / "ndec.toml").write_text(SETTINGS, "utf-8")
        last = max(number for number, stage in enumerate(self.stages) if stage.killed and stage.name in wanted)
        for stage in self.stages[: last + 1]:
            if stage.name == "label":
                label_all(self.root, stage.arguments[0])
                continue
            if stage.killed and stage.name in wanted:
                shutil.copytree(self.root, self.before(stage))
            ended = self.finish(stage)
            if stage.killed and stage.name in wanted:
                self.usual[stage.name] = ended
                self.after[stage.name] = hashes(self.root)
        shutil.rmtree(self.root)

    def before(self, stage: Stage) -> Path:
        return self.folder / "before" / stage.name

    def kill(self, stage: Stage, kills: int, chain: int) -> Tally:
        """Kill a stage so many times in all, up to `chain` times in a row; compare after each chain."""
        tally, usual = Tally(), self.usual[stage.name]
        while tally.kills < kills:
            shutil.rmtree(self.root, ignore_errors=True)
            shutil.copytree(self.before(stage), self.root)
            begun = time.monotonic()
            for _ in range(self.chance.randint(1, chain)):
                by_time = self.chance.random() < 0.5
                command = self.start(stage, -1 if by_time else self.chance.randint(1, max(usual.changes, 1)))
                if by_time:
                    command.kill_after(self.chance.uniform(0, usual.seconds))
                ended = command.wait()
                if not ended.killed:
                    tally.ended_before += 1
                    break
                tally.by_time += by_time
                tally.by_change += not by_time
                if tally.kills == kills:
                    break
            self.finish(stage)
            self._compare(stage, tally)
            tally.seconds += time.monotonic() - begun
        shutil.rmtree(self.root)
        return tally

    def _compare(self, stage: Stage, tally: Tally) -> None:
        found, wanted = hashes(self.root), self.after[stage.name]
        wrong = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
        if stage.name == "push":
            wrong += wrong_tasks(self.root)
        tally.runs += 1
        tally.same += not wrong
        tally.left += len(leftovers(self.root))
        tally.wrong += wrong
        for name in [*wrong, *map(str, leftovers(self.root))]:
            print(f"{stage.name}: {name} differs or is left over", file=sys.stderr, flush=True)


def hashes(root: Path) -> dict[str, str]:
    """sha256 of every file of a workspace, records of the run aside."""
    return {
        str(path.relative_to(root)): sha256_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(RECORDS) and "tensorboard" not in path.parts
    }


def leftovers(root: Path) -> list[Path]:
    """Temporary files, locks and work folders: none may be there after a finished run."""
    return [
        path
        for path in root.rglob("*")
        if ".partial" in path.name or path.suffix == ".lock" or path.name == "shards" or path.name.startswith(".ingest")
    ]


def label_all(root: Path, split: str) -> None:
    """Two people answer through the API, and sometimes disagree."""
    from ndec_builder.annotation.label_studio.connection import connect_label_studio
    from ndec_builder.core.workspace import Workspace
    from ndec_builder.demo.oracle import answer_all

    def label(query: str, reference: str, often: int) -> str:
        draw = random.Random(f"{query} {reference}").randrange(100)
        return "hard_negative" if draw % often else "unrelated"

    for name, often in (("ann", 5), ("ben", 7)):
        connection = connect_label_studio(Workspace(root))
        answer_all(Workspace(root), split, connection, lambda q, r, n=often: label(q, r, n), name, threads=1)  # type: ignore[misc]


def wrong_tasks(root: Path) -> list[str]:
    """Label Studio must hold each task of the table once; the projects are removed, the next run makes its own."""
    from ndec_builder.annotation.label_studio import projects
    from ndec_builder.annotation.label_studio.connection import connect_label_studio
    from ndec_builder.core.storage import read_table
    from ndec_builder.core.workspace import Workspace

    workspace = Workspace(root)
    client = connect_label_studio(workspace).client()
    rows = read_table(workspace.annotation("test") / "tasks.parquet").to_pylist()
    there, wrong = projects.find_projects(client), []
    for name in sorted({row["annotator"] for row in rows}):
        project = there.get(projects.project_key(workspace, "test", "first", name))
        found = [] if project is None else client.tasks.list(project=project.id, page_size=1000, include="id,data")
        ids = sorted(task.data["pair_id"] for task in found)
        if ids != sorted(row["pair_id"] for row in rows if row["annotator"] == name):
            wrong.append(f"Label Studio's tasks of {name}")
    key = projects.workspace_key(workspace)
    for name, project in there.items():
        if name.startswith(f"{key}/"):
            client.projects.delete(id=project.id)
    extra = sum(name.startswith(f"{key}/") for name in there) - len({row["annotator"] for row in rows})
    return wrong + ([f"{extra} projects too many"] if extra else [])


@contextlib.contextmanager
def label_studio(folder: Path) -> Iterator[None]:
    """The server named by LABEL_STUDIO_URL, else one for this run."""
    from ndec_builder.annotation.label_studio.credentials import make_secrets
    from ndec_builder.annotation.label_studio.server import LabelStudioServer
    from support.needs import free_port

    if "LABEL_STUDIO_URL" in os.environ:
        yield
        return
    with LabelStudioServer(folder / "label-studio", free_port()) as server:
        os.environ["LABEL_STUDIO_URL"] = server.url
        os.environ["LABEL_STUDIO_API_KEY"] = make_secrets(folder / "label-studio")["token"]
        yield
