"""Let push, pull, resolve, handover and export fail at every change of a file and at every request.

    python tests/faults/write_points.py [--every N] [--scene NAME …] [--workers 2]

Each command runs once without a fault and counts its changes (write, rename, fsync, unlink, mkdir …, also those made
inside Arrow) and its requests. Then, for each index: SIGKILL before it; a full disk, or a read-only one, from it on;
one I/O error at it; and each request lost before it was carried out, or its answer lost, with and without a kill of the
command. The same command then runs again without a fault, and all tables, files and stored tasks must equal those of
the uninterrupted run. The server is a fake in memory (fake_label_studio.py), because this needs thousands of runs; the
labels come from simulated annotators. Writes tests/faults/results/write_points.md.
"""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.labelling_bench import Bench, Scene, leftovers  # noqa: E402
from faults.labelling_scenes import SCENES  # noqa: E402
from faults.syscalls import NEEDS_SPACE, Call, Ended, available  # noqa: E402
from support.processes import end_with_parent, folder_in_memory  # noqa: E402

AT_CALLS = ("killed", "full disk", "read-only", "I/O error")
AT_REQUESTS = ("dropped before", "dropped after", "killed before", "killed after")


@dataclass
class Tally:
    """What the faults of one kind did to one scene."""

    indexes: int = 0
    refused: int = 0  # ended with one paragraph
    finished: int = 0  # the fault had no consequence
    reruns: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def decide(kind: str, number: int):  # type: ignore[no-untyped-def]
    """What happens to each change of a file when the fault begins at `number`."""

    def answer(call: Call) -> int:
        if call.number < number:
            return 0
        if kind == "killed":
            return -signal.SIGKILL
        if kind == "full disk":
            return errno.ENOSPC if call.name in NEEDS_SPACE else 0
        if kind == "read-only":
            return errno.EROFS
        return errno.EIO if call.number == number else 0

    return answer


class Points:
    """Runs faults on a bench. Two faults that leave the same state are followed by one run without a fault."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.known: dict[tuple[str, str], list[str]] = {}

    def fault(self, scene: Scene, kind: str, number: int, tally: Tally) -> list[str]:
        """One fault, and the run after it; returns what was wrong."""
        bench, begun = self.bench, time.monotonic()
        bench.reset(scene)
        if kind in AT_CALLS:
            bench.server.fail_at(0, "")
            ended = bench.run(scene.arguments, decide(kind, number))
        else:
            bench.server.fail_at(number, kind)
            ended = bench.run(scene.arguments)
            bench.server.fail_at(0, "")
        wrong = self._ended(kind, ended, tally)
        wrong += [text for text in bench.damage() if text not in bench.damaged[scene.name]]
        if ended.code == 0:
            wrong += bench.differences(bench.after[scene.name]) + bench.doubled()
        if ended.code != 0 or leftovers(bench.root):  # a read-only disk keeps what should be removed
            wrong += self._again(scene, tally)
        tally.indexes += 1
        tally.seconds += time.monotonic() - begun
        tally.wrong += [f"{scene.name}, {kind} at {number}: {text}" for text in wrong]
        return wrong

    def _ended(self, kind: str, ended: Ended, tally: Tally) -> list[str]:
        if ended.code == -signal.SIGKILL:
            return [] if kind.startswith("killed") else ["was killed"]
        if ended.code == 0:
            tally.finished += 1
            return []
        tally.refused += 1
        lines = ended.text.strip().splitlines()
        if ended.code != 1 or "Traceback" in ended.text or not lines or not lines[-1].startswith("ndec: "):
            return [f"ended with {ended.code}: {ended.text[-700:]}"]
        return []

    def _again(self, scene: Scene, tally: Tally) -> list[str]:
        bench = self.bench
        state = (scene.name, bench.fingerprint())
        if state not in self.known:
            tally.reruns += 1
            ended = bench.run(scene.arguments)
            wrong = [f"the next run ended with {ended.code}: {ended.text[-700:]}"] if ended.code else []
            self.known[state] = wrong + bench.problems(bench.after[scene.name]) + bench.doubled()
        return self.known[state]


def indexes(bench: Bench, scene: Scene) -> Iterator[tuple[str, int]]:
    """Every fault of a scene: its kind, and the index at which it begins."""
    for call in bench.calls[scene.name]:
        for kind in AT_CALLS:
            if kind != "full disk" or call.name in NEEDS_SPACE:
                yield kind, call.number
    for number in range(1, len(bench.requests[scene.name]) + 1):
        for kind in AT_REQUESTS:
            yield kind, number


def run_scene(name: str, every: int, start: int = 0) -> tuple[str, Counter[str], int, dict[str, Tally]]:
    """All faults of a scene, or every N-th; (name, changes by call, requests, tallies by kind)."""
    scene = next(scene for scene in SCENES if scene.name == name)
    with folder_in_memory("write-points") as folder:
        bench = Bench(folder)
        try:
            bench.keep(scene)
            points, tallies = Points(bench), {kind: Tally() for kind in (*AT_CALLS, *AT_REQUESTS)}
            for kind, number in list(indexes(bench, scene))[start::every]:
                if wrong := points.fault(scene, kind, number, tallies[kind]):
                    print(f"{name}, {kind} at {number}: {wrong}", file=sys.stderr, flush=True)
            calls = Counter(call.name for call in bench.calls[name])
            return name, calls, len(bench.requests[name]), tallies
        finally:
            bench.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every N-th fault; writes no result file")
    parser.add_argument("--keep", action="store_true", help="write write_points_sampled.md, if it is no full run")
    parser.add_argument("--scene", action="append", default=[], help="only this one; may be given several times")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if reason := available():
        raise SystemExit(reason)
    names = [scene.name for scene in SCENES if not given.scene or scene.name in given.scene]
    rows, bad, changes, requests, faults = [], 0, 0, 0, 0
    with ProcessPoolExecutor(given.workers, max_tasks_per_child=1, initializer=end_with_parent) as pool:
        for name, calls, asked, tallies in pool.map(run_scene, names, [given.every] * len(names)):
            changes, requests = changes + calls.total(), requests + asked
            for kind, tally in tallies.items():
                if not tally.indexes:
                    continue
                faults, bad = faults + tally.indexes, bad + len(tally.wrong)
                rows.append((name, kind, tally.indexes, tally.refused, tally.finished, tally.reruns, len(tally.wrong)))
                print(name, kind, tally, file=sys.stderr, flush=True)
    head = ("command", "fault", "indexes", "refused in one paragraph", "no consequence", "states continued from",
            "wrong")  # fmt: skip
    notes = [
        f"{changes:,} changes of files and {requests} requests; {faults:,} faults. {bad} wrong.",
        "",
        "Wrong: a lost or doubled label, incident, task or project; a table, file or dataset that differs from the "
        "uninterrupted run; a folder that looks like a dataset but is none; a broken chain; a temporary file left "
        "over; a message that is not one paragraph. Faults that leave the same state are continued from once. Server: "
        "the fake one, in memory; annotators: simulated.",
    ]
    full = given.every == 1 and not given.scene
    title = "A fault at every change of a file and every request"
    title += "" if full else f": some commands, every {given.every}th place"
    record.write("write_points" if full else "write_points_sampled", title, head, rows, notes, keep=full or given.keep)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
