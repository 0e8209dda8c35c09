"""Random schedules of two users on two hosts: commands, kills, restored copies and clocks that are wrong by a day.

    python tests/faults/random_schedules.py [--count 200] [--first 0] [--steps 18]

Each schedule has a shared folder, and two users (two uids, one group) on two simulated hosts with names, boot ids and
clocks of their own. In half of the schedules the locks of one host do not reach the other. The steps are drawn: push,
label, correct, skip, delete, pull, resolve, leave, export, backup, restoring an older workspace, restoring an older
database of Label Studio, a clock that is set by a day, kills, and two commands at once. At the end everything is pushed
and pulled. Server: the fake one, in memory; annotators: simulated. Writes tests/faults/results/random_schedules.md.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record, syscalls, two_hosts  # noqa: E402
from faults.labelling_bench import EXPORT, Bench, leftovers, make_world, server_key  # noqa: E402
from faults.syscalls import Ended  # noqa: E402
from faults.two_hosts import GROUP, Actor  # noqa: E402
from faults.write_points import in_memory  # noqa: E402
from ndec_builder.annotation.records.ledger import APPEND_ONLY  # noqa: E402
from ndec_builder.annotation.tables import AnnotationTables  # noqa: E402
from ndec_builder.core.schemas import LABELS  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402

DAY = 86_400
STEPS = {
    "label": 6, "correct": 3, "skip": 1, "delete": 1, "pull": 5, "pull_all": 1, "push": 2, "newcomer": 1, "resolve": 3,
    "leave": 1, "export": 1, "backup": 3, "restore_workspace": 1, "restore_server": 1, "server_clock": 1,
    "host_clock": 1, "kill": 3, "meet": 2,
}  # fmt: skip
WHO = re.compile(r"process (?P<pid>\d+) of (?P<who>.+? on [\w.-]+), since ")
LOCK_FILE = re.compile(r"if it no longer runs, delete (\S+\.lock);")
_Key = tuple[str, str]  # annotator, pair_id
_Row = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What a simulated annotator did: a label, None for Skip, "deleted" for a deletion. number: the true order."""

    number: int
    key: _Key
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

    def run(self, count: int) -> None:
        first = ["push", "label", "pull", "backup"]
        for name in [*first, *self.random.choices(list(STEPS), list(STEPS.values()), k=count)]:
            self.counts[name] += 1
            getattr(self, f"_{name}")()
            self._check_rows(name)
            if self.wrong:
                return
        self._end()

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
            self.steps.append(f"  {lines[-1]}")
        elif ended.code != 0:
            self.wrong.append(f"ended with {ended.code}: {ended.text[-1500:]}")
        return ended

    def _command(self, *arguments: str, actor: Actor | None = None) -> Ended:
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
            self._push_arguments(), ("annotate", "pull"), ("annotate", "resolve", "--plan", "economical"),
            ("annotate", "leave", "ben"), EXPORT,
        ))  # fmt: skip

    def _push_arguments(self) -> tuple[str, ...]:
        return (
            "annotate",
            "push",
            *(word for name in self.people for word in ("--annotator", name)),
            "--overlap",
            "0.4",
        )

    def _push(self) -> None:
        self._command(*self._push_arguments())

    def _newcomer(self) -> None:
        self.people = ["ann", "ben", "cat"]
        self._push()

    def _pull(self) -> None:
        self._command("annotate", "pull")

    def _pull_all(self) -> None:
        self._command("annotate", "pull", "--all")

    def _resolve(self) -> None:
        self._command("annotate", "resolve", "--plan", "economical")

    def _leave(self) -> None:
        self._command("annotate", "leave", self.random.choice(self.people))

    def _export(self) -> None:
        self._command(*EXPORT)

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

    # what must hold

    def _check_rows(self, step: str) -> None:
        """No table ever loses a row, or half a dataset appears, or a task is doubled."""
        for name in APPEND_ONLY:
            path = Workspace(self.bench.root).annotation("test") / f"{name}.parquet"
            table = pq.read_table(path, partitioning=None).to_pylist() if path.is_file() else []
            rows = [tuple(sorted(row.items())) for row in table]
            if rows[: len(self.rows[name])] != self.rows[name]:
                self.wrong.append(f"{name} lost rows in the step {step}")
            self.rows[name] = rows
        self.wrong += self.bench.doubled() + self.bench.damage()

    def _end(self) -> None:
        """Everything is pushed and pulled. Then every answer must be stored, and the last one of each pair counts."""
        self.people = ["ann", "ben", "cat"]
        actor = self.random.choice(self.actors)
        for arguments in (self._push_arguments(), ("annotate", "pull", "--all"), ("annotate", "check")):
            ended = self._command(*arguments, actor=actor)
            if ended.code:
                self.wrong.append(f"the last {arguments[1]} ended with {ended.code}: {ended.text[-900:]}")
                return
            self._check_rows("end")
        locks = [path for path in leftovers(self.bench.root / "annotation") if path.suffix == ".lock"]
        self.wrong += [f"left over: {path}" for path in locks]
        tables = AnnotationTables(Workspace(self.bench.root), "test")
        valid: dict[_Key, str] = {(r["annotator"], r["pair_id"]): r["label"] for r in tables.valid_labels.to_pylist()}
        reported = Counter(
            ((r["annotator"], r["pair_id"]), r["kind"]) for r in tables.incidents.to_pylist()
        )  # fmt: skip
        stored = self._stored(tables)
        for key in sorted({one.key for one in self.on_server} | set(stored)):
            self._check_pair(key, valid.get(key), stored.get(key, []), reported)
        self.counts["answers"] += len(self.said)

    def _stored(self, tables: AnnotationTables) -> dict[_Key, list[Said]]:
        """What the workspace knows of each pair, as the simulated annotators said it. A row without such is wrong."""
        by_identity = {(one.key, one.answer, one.at): one for one in self.said if one.answer != "deleted"}
        found: dict[_Key, list[Said]] = {}
        for row in tables.labels.to_pylist():
            key = (row["annotator"], row["pair_id"])
            one = by_identity.get((key, row["label"], _time(row["annotated_at"])))
            if one is None:
                self.wrong.append(f"a label that nobody gave: {row}")
                continue
            found.setdefault(key, []).append(one)
        for row in tables.skips.to_pylist():
            key = (row["annotator"], row["pair_id"])
            if row["kind"] == "skipped":
                found.setdefault(key, []).append(by_identity[key, None, _time(row["at"])])
            elif row["kind"] == "deleted":
                last = max((one.number for one in found.get(key, [])), default=-1)
                # by a deletion, or by a skip that a later copy of the workspace knew: the pair was given out again
                gone = [one for one in self.said if one.key == key and one.answer not in LABELS]
                if not gone:
                    self.wrong.append(f"{key} was withdrawn, and nobody did that")
                found.setdefault(key, []).extend([one for one in gone if one.number > last][:1])
        return found

    def _check_pair(self, key: _Key, valid: str | None, stored: list[Said], reported: Counter[Any]) -> None:
        current = next((one for one in reversed(self.on_server) if one.key == key), None)
        unstored = current is not None and current.answer in LABELS and current not in stored
        newer = current is not None and any(one.number > current.number for one in stored)
        if unstored and not newer and self.clocks_changed and reported[key, "label_older"]:
            self.counts["answers in an older database that were not believed, reported"] += 1
            return
        if unstored and not newer and valid != current.answer:  # an equal label needs no row of its own
            self.wrong.append(f"{key}: {current} is not stored; {stored}")
            return
        known = [*stored, *([current] if current is not None else [])]
        if not known:
            return
        last = max(known, key=lambda one: one.number)
        wanted = last.answer if last.answer in LABELS else None
        if valid == wanted:
            return
        if wanted is None and valid is not None:
            if reported[key, "label_missing"]:
                self.counts["deletions in an older database that were not believed, reported"] += 1
            elif current is not None and current.number < last.number:
                self.counts["withdrawn labels that an older database brought back"] += 1
            else:
                self.wrong.append(f"{key}: {last} was withdrawn, and {valid} counts")
        elif self.clocks_changed and reported[key, "annotation_changed"]:
            self.counts["older answers taken as corrections, reported"] += 1
        elif self.clocks_changed and reported[key, "label_older"]:
            self.counts["answers in an older database that were not believed, reported"] += 1
        else:
            self.wrong.append(f"{key}: {valid} counts instead of {last}; stored {stored}; server {current}")


def _time(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")


def _prepare(actor: Actor, folder: Path, separate: bool) -> None:
    from ndec_builder.core import locks

    locks._PATIENCE, locks._SETTLE = 0.05, 0.0  # a lock is not waited for: its holder stands still
    actor.become(folder, separate)


@dataclass
class Result:
    """What some schedules found."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run_schedules(seeds: list[int], steps: int) -> Result:
    """Run schedules one after another on one bench."""
    result = Result()
    with tempfile.TemporaryDirectory(prefix="random-schedules-", dir=in_memory()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        bench = Bench(folder)
        try:
            for seed in seeds:
                schedule = Schedule(bench, seed)
                schedule.run(steps)
                result.counts += schedule.counts
                result.counts["schedules"] += 1
                if schedule.wrong:
                    lines = [f"seed {seed}:", *schedule.steps, *(f"WRONG {text}" for text in schedule.wrong)]
                    print("\n".join(lines), file=sys.stderr, flush=True)
                    result.wrong += [f"seed {seed}: {text}" for text in schedule.wrong]
        finally:
            bench.close()
    return result


def unavailable() -> str:
    """Empty if schedules can run here, else the reason why not."""
    return syscalls.available() or two_hosts.available()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--seed", type=int, action="append", default=[], help="only this one; may be given several times"
    )
    parser.add_argument("--steps", type=int, default=18, help="of each schedule")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    if reason := unavailable():
        raise SystemExit(reason)
    seeds = given.seed or [*range(given.first, given.first + given.count)]
    total = Result()
    with ProcessPoolExecutor(given.workers) as pool:
        parts = [seeds[start : start + 10] for start in range(0, len(seeds), 10)]
        for one in pool.map(run_schedules, parts, [given.steps] * len(parts)):
            total.counts += one.counts
            total.wrong += one.wrong
            print(f"{total.counts['schedules']} schedules, {len(total.wrong)} wrong", file=sys.stderr, flush=True)
    rows = [(name, count) for name, count in sorted(total.counts.items()) if name not in STEPS]
    rows += [("wrong", len(total.wrong))]
    steps = ", ".join(f"{total.counts[name]} {name.replace('_', ' ')}" for name in STEPS)
    notes = [
        f"Steps: {steps}.", "",
        "Wrong: a stored row (label, skip or incident) that is lost; an answer on the server that is not stored at the "
        "end, or does not count although it is the last one; a withdrawn label that nobody withdrew; a doubled task; "
        "half a dataset; a refusal that does not name process, user and host; a message that is not one paragraph. An "
        "answer is really lost only if it was never pulled and an older database was put in place. Users are real "
        "uids, hosts are Linux namespaces; the wrong clocks are those that the server and Python report.", "",
        *(f"* {text}" for text in total.wrong),
    ]  # fmt: skip
    keep = given.first == 0 and given.count == 200 and not given.seed
    record.write(
        "random_schedules", "Random schedules of two users on two hosts", ("what", "count"), rows, notes, keep=keep
    )
    sys.exit(bool(total.wrong))


if __name__ == "__main__":
    main()
