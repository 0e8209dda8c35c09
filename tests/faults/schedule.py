"""The steps of a random schedule: two users on two simulated hosts, copies, clocks and kills.

In half of the schedules the locks of one host do not reach the other.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import syscalls
from faults.labelling_bench import Bench, server_key
from faults.labelling_scenes import EXPORT, make_world
from faults.syscalls import Ended
from faults.two_hosts import GROUP, Actor
from ndec_builder.annotation.records.ledger import APPEND_ONLY
from ndec_builder.core.schemas import LABELS

DAY = 86_400
STEPS = {
    "label": 6, "correct": 3, "skip": 1, "delete": 1, "pull": 5, "pull_all": 1, "push": 2, "newcomer": 1, "resolve": 3,
    "leave": 1, "export": 1, "backup": 3, "restore_workspace": 1, "restore_server": 1, "server_clock": 1,
    "host_clock": 1, "kill": 3, "meet": 2,
}  # fmt: skip
WHO = re.compile(r"process (?P<pid>\d+) of (?P<who>.+? on [\w.-]+), since ")
LOCK_FILE = re.compile(r"if it no longer runs, delete (\S+\.lock);")
Key = tuple[str, str]  # annotator, pair_id
_Row = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What a simulated annotator did: a label, None for Skip, "deleted" for a deletion. number: the true order."""

    number: int
    key: Key
    answer: str | None
    at: str  # time by the server's clock


@dataclass
class Kept:
    """A copy of the workspace and of Label Studio's database, made at one moment."""

    folder: Path
    state: _Row
    said: list[Said]
    rows: dict[str, list[Any]]


class Schedule:
    """One shared folder. `steps` is the log, `wrong` what must not have happened."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.random, self.folder = bench, random.Random(seed), bench.folder
        self.steps: list[str] = []
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()  # by their text without names and numbers that differ
        self.separate = seed % 2 == 1
        self.actors = [Actor("one", 40_001, "alpha", 0), Actor("two", 40_002, "beta", 1)]
        self.people, self.clock = ["ann", "ben"], 0.0
        self.said: list[Said] = []  # everything
        self.on_server: list[Said] = []  # what the database has gone through
        self.rows: dict[str, list[Any]] = {name: [] for name in APPEND_ONLY}
        self.copies: list[Kept] = []
        self.killed: set[int] = set()
        self.clocks_changed = False
        shutil.rmtree(self.folder / "copies", ignore_errors=True)
        shutil.rmtree(bench.root, ignore_errors=True)
        bench.server.reset()
        make_world(bench.root)
        settings = "".join(f'[annotate.{name}]\nimage_url = "http://127.0.0.1:1/key/k"\n' for name in ("push", "leave"))
        (bench.root / "ndec.toml").write_text(settings)  # the key file is private to one of the two users
        for path in (bench.root, *bench.root.rglob("*")):
            os.chown(path, self.actors[0].uid, GROUP)
            path.chmod(0o2775 if path.is_dir() else 0o664)

    def step(self, name: str) -> None:
        """Do one step of STEPS."""
        self.counts[name] += 1
        getattr(self, f"_{name}")()

    # commands

    def _start(self, actor: Actor, arguments: tuple[str, ...], log: str = "log.txt", **more: Any) -> syscalls.Watched:
        self.steps.append(f"{actor.name}: {' '.join(arguments)}")
        self.bench.server.fail_at(0, "")
        return self.bench.watched(
            arguments, prepare=lambda: _prepare(actor, self.folder, self.separate), log=log, **more
        )

    def _ended(self, ended: Ended) -> Ended:
        """Every end but a kill is success or one paragraph."""
        lines = ended.text.strip().splitlines() or [""]
        if ended.code == 1 and "Traceback" not in ended.text and lines[-1].startswith("ndec: "):
            self.counts["refused"] += 1
            self.refusals[self._without_details(lines[-1])] += 1
            self.steps.append(f"  {lines[-1]}")
        elif ended.code != 0:
            self.wrong.append(f"ended with {ended.code}: {ended.text[-1500:]}")
        return ended

    def _without_details(self, refusal: str) -> str:
        """The text of a refusal without process numbers, times, addresses and the folder."""
        text = refusal.replace(str(self.folder), "…").removeprefix("ndec: ")
        text = re.sub(r"process \d+ of", "process N of", re.sub(r"http://[\w.:]+", "http://…", text))
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)?", "TIME", text)

    def command(self, *arguments: str, actor: Actor | None = None) -> Ended:
        """Run a command. A lock that a killed command left on the other host is removed as the message says."""
        actor = actor or self.random.choice(self.actors)
        ended = self._ended(self._start(actor, arguments).wait())
        if ended.code == 1 and ("is writing" in ended.text or "be writing" in ended.text):
            found, file = WHO.search(ended.text), LOCK_FILE.search(ended.text)
            left_by = int(found["pid"]) if found else 0
            if not file or left_by not in self.killed:
                self.wrong.append(f"refused without a running writer: {ended.text[-500:]}")
                return ended
            self.counts["locks of killed commands"] += 1
            Path(file[1]).unlink()
            ended = self._ended(self._start(actor, arguments).wait())
        return ended

    def _verb(self) -> tuple[str, ...]:
        return self.random.choice((
            self.push_arguments(), ("annotate", "pull"), ("annotate", "resolve", "--plan", "economical"),
            ("annotate", "leave", "ben"), EXPORT,
        ))  # fmt: skip

    def push_arguments(self) -> tuple[str, ...]:
        return (
            "annotate",
            "push",
            *(word for name in self.people for word in ("--annotator", name)),
            "--overlap",
            "0.4",
        )

    def _push(self) -> None:
        self.command(*self.push_arguments())

    def _newcomer(self) -> None:
        self.people = ["ann", "ben", "cat"]
        self._push()

    def _pull(self) -> None:
        self.command("annotate", "pull")

    def _pull_all(self) -> None:
        self.command("annotate", "pull", "--all")

    def _resolve(self) -> None:
        self.command("annotate", "resolve", "--plan", "economical")

    def _leave(self) -> None:
        self.command("annotate", "leave", self.random.choice(self.people))

    def _export(self) -> None:
        self.command(*EXPORT)

    def _kill(self) -> None:
        """Kill a command before one of its changes."""
        at, arguments = self.random.randint(1, 160), self._verb()
        process = self._start(
            self.random.choice(self.actors), arguments, decide=lambda call: -signal.SIGKILL if call.number == at else 0
        )
        ended = process.wait()
        if ended.code == -signal.SIGKILL:
            self.killed.add(process.pid)
            self.counts["killed"] += 1
            self.steps.append(f"  killed before change {at}")
        else:
            self._ended(ended)

    def _meet(self) -> None:
        """One command stands still; the other user's must be refused and name it, or be one that needs no such lock."""
        first, second = self.random.sample(self.actors, 2)
        at, arguments, other = self.random.randint(1, 120), self._verb(), self._verb()
        process = self._start(first, arguments, log="first.txt")
        while len(process.calls) < at and process.step() is not None:
            pass
        ended = self._ended(self._start(second, other).wait())
        text = ended.text
        if "is writing" in text or "be writing" in text:
            found = WHO.search(text)
            self.counts["refused next to a running command"] += 1
            holder = int(found["pid"]) if found else 0
            if holder not in self.killed and (not found or (holder, found["who"]) != (process.pid, first.shown)):
                self.wrong.append(f"does not name process {process.pid} of {first.shown}: {text[-500:]}")
        self._ended(process.wait())

    # what people do

    def _tasks(self) -> list[tuple[int, str, _Row]]:
        """(project, annotator, task) of all tasks."""
        state = self.bench.server.state()
        names = {number: server_key(project).rpartition("/")[2] for number, project in state["projects"].items()}
        return [(task["project"], names[task["project"]], task) for task in state["tasks"].values()]

    def _answer(self, project: int, annotator: str, task: _Row, answer: str | None) -> None:
        pair = task["data"]["pair_id"]
        if answer == "deleted":
            self.bench.server.delete_label(project, pair)
            at = ""
        else:
            self.bench.server.label(project, pair, answer)
            (at,) = (
                t["annotations"][0]["updated_at"] for p, _, t in self._tasks() if p == project and t["id"] == task["id"]
            )
        said = Said(len(self.said), (annotator, pair), answer, at)
        self.said.append(said)
        self.on_server.append(said)
        self.steps.append(f"  {annotator} {pair}: {answer or 'skip'}")

    def _some(self, answered: bool, count: int) -> list[tuple[int, str, _Row]]:
        found = [one for one in self._tasks() if bool(one[2]["annotations"]) == answered]
        return self.random.sample(found, min(count, len(found)))

    def _label(self) -> None:
        for one in self._some(False, self.random.randint(1, 4)):
            self._answer(*one, self.random.choice(LABELS))

    def _correct(self) -> None:
        for one in self._some(True, self.random.randint(1, 2)):
            self._answer(*one, self.random.choice([*LABELS, None]))

    def _skip(self) -> None:
        for one in self._some(False, 1):
            self._answer(*one, None)

    def _delete(self) -> None:
        for one in self._some(True, 1):
            self._answer(*one, "deleted")

    # copies and clocks

    def _backup(self) -> None:
        target = self.folder / "copies" / str(len(self.copies))
        target.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", self.bench.root, target], check=True)
        rows = {name: list(found) for name, found in self.rows.items()}
        self.copies.append(Kept(target, self.bench.server.state(), list(self.on_server), rows))

    def _restore_workspace(self) -> None:
        copy = self.random.choice(self.copies)
        self.steps.append(f"workspace of copy {copy.folder.name}")
        shutil.rmtree(self.bench.root)
        subprocess.run(["cp", "-a", copy.folder, self.bench.root], check=True)
        self.rows = {name: list(found) for name, found in copy.rows.items()}

    def _restore_server(self) -> None:
        copy = self.random.choice(self.copies)
        self.steps.append(f"database of copy {copy.folder.name}")
        self.bench.server.restore(copy.state)
        self.on_server = list(copy.said)

    def _server_clock(self) -> None:
        self.clock, self.clocks_changed = self.random.choice([-DAY, 0, DAY]), True
        self.steps.append(f"the server's clock is wrong by {self.clock:+} s")
        self.bench.server.set_clock(self.clock)

    def _host_clock(self) -> None:
        actor = self.random.choice(self.actors)
        actor.late = self.random.choice([-DAY, 0, DAY])
        self.steps.append(f"the clock of {actor.host} is wrong by {actor.late:+} s")


def _prepare(actor: Actor, folder: Path, separate: bool) -> None:
    from ndec_builder.core import locks

    locks._PATIENCE, locks._SETTLE = 0.05, 0.0  # a lock is not waited for: its holder stands still
    actor.become(folder, separate)
