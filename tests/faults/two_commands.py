"""Two commands at once: one stands still before every change that the other can see, while the other runs to its end.

    python tests/faults/two_commands.py [--every N] [--workers 2]

Every pair of push (with a newcomer), pull, resolve, leave and export, in both roles. The first command is stopped
before each rename, link, removal and new folder (what it writes into temporary files nobody sees), and while it waits
for the answer to each request that changes the server. Then the second one runs, then the first one goes on. Allowed:
the second is refused with a message that names process, user and host of the first; or exit codes, tables, files and
stored tasks are those of one of the two orders, one after the other. Writes tests/faults/results/two_commands.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.labelling_bench import Bench, Scene  # noqa: E402
from faults.labelling_scenes import EXPORT, PEOPLE, make_world, other_label, simulated_label  # noqa: E402
from faults.syscalls import Call, available  # noqa: E402
from ndec_builder.core.access.machines import user_name  # noqa: E402
from support.processes import end_with_parent, folder_in_memory  # noqa: E402

VISIBLE = ("rename", "link", "unlink", "rmdir", "mkdir")
VERBS = {
    "push": ("annotate", "push", *PEOPLE, "--annotator", "cat", "--overlap", "0.4"),
    "pull": ("annotate", "pull"),
    "resolve": ("annotate", "resolve", "--plan", "economical"),
    "leave": ("annotate", "leave", "ben"),
    "export": EXPORT,
}
Result = tuple[int, int, Any]  # exit codes of the first and the second command, and the summary of the state


@dataclass
class Met:
    """What happened when two commands met."""

    points: int = 0
    refused: int = 0
    serial: int = 0
    wrong: list[str] = field(default_factory=list)


def prepare(bench: Bench) -> None:
    """Decided and exportable; since then some pairs were labelled or corrected, and ben still has open ones."""
    make_world(bench.root)
    bench.must("annotate", "push", *PEOPLE, "--overlap", "0.4")
    bench.label("ann", 0, None, simulated_label)
    bench.label("ben", 0, 4, simulated_label)
    bench.must("annotate", "pull")
    bench.must("annotate", "resolve")
    first, second, *_ = bench.pairs("ann")
    bench.server.label(bench.project("ann"), first, other_label(first))
    bench.label("ben", 4, 5, simulated_label)
    bench.server.delete_label(bench.project("ann"), second)


START = Scene("start", VERBS["pull"], prepare)


class Pair:
    """Two commands on one bench."""

    def __init__(self, bench: Bench, first: str, second: str) -> None:
        self.bench, self.first, self.second = bench, VERBS[first], VERBS[second]
        self.name = f"{first} while {second}"
        self.serial = [self._one_after_the_other(False), self._one_after_the_other(True)]
        bench.reset(START)
        code = self.bench.run(self.first).code
        self.alone = code, bench.summary()

    def _one_after_the_other(self, turned: bool) -> Result:
        self.bench.reset(START)
        order = (self.second, self.first) if turned else (self.first, self.second)
        codes = [self.bench.run(arguments).code for arguments in order]
        return (*(reversed(codes) if turned else codes), self.bench.summary())  # type: ignore[return-value]

    def meet_at(self, place: int | str, met: Met) -> None:
        """`place`: the number of a change before which the first command stands still, or of a request, as "r3"."""
        bench = self.bench
        bench.reset(START)
        bench.server.fail_at(0, "")
        if isinstance(place, str):
            bench.server.pause_at(int(place[1:]))
        first = bench.watched(self.first, prepare=_impatient, log="first.txt")
        if isinstance(place, int):
            while len(first.calls) < place - 1:
                if first.step() is None:
                    break
        else:
            deadline = time.monotonic() + 60
            while len(bench.server.requests()) < int(place[1:]) and time.monotonic() < deadline:
                first.step(0.02, patient=True)
            while first.step(0.1, patient=True) is not None:  # it waits for the answer now
                pass
        second = bench.watched(self.second, prepare=_impatient).wait()
        bench.server.go_on()
        ended = first.wait()
        met.points += 1
        found = (ended.code, second.code, bench.summary())
        wrong = bench.problems(found[2]) + bench.doubled()
        wrong += [one.text[-400:] for one in (ended, second) if one.code not in (0, 1) or "Traceback" in one.text]
        who = f"of {user_name(os.geteuid())} on {socket.gethostname()}"
        if second.code == 1 and "is writing" in second.text and (ended.code, found[2]) == self.alone:
            met.refused += 1
            if f"process {first.pid} {who}" not in second.text:
                wrong.append(f"the message does not say who and where: {second.text[-400:]}")
        elif found in self.serial:
            met.serial += 1
        else:
            near = min((self._differences(found, one) for one in self.serial), key=len)
            wrong.append(f"like neither order: {near} · {ended.text[-300:]} · {second.text[-300:]}")
        met.wrong += [f"{self.name} at {place}: {text}" for text in wrong]

    @staticmethod
    def _differences(found: Result, wanted: Result) -> list[str]:
        names = [f"codes {found[:2]} instead of {wanted[:2]}"] if found[:2] != wanted[:2] else []
        one, other = found[2], wanted[2]
        return names + [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def _impatient() -> None:
    """A lock is not waited for: the holder stands still."""
    from ndec_builder.core import locks

    locks._PATIENCE = 0.05


def places(calls: list[Call], requests: list[str]) -> list[int | str]:
    """Where the first command is stopped."""
    changes = [number for number, text in enumerate(requests, 1) if not text.startswith("GET")]
    visible = [call.number for call in calls if call.name in VISIBLE]
    return [*visible, *(f"r{number}" for number in changes)]


def run_pair(first: str, second: str, every: int, start: int = 0) -> tuple[str, str, Met]:
    with folder_in_memory("two-commands") as folder:
        bench = Bench(folder)
        try:
            return meet(bench, first, second, every, start)
        finally:
            bench.close()


def meet(bench: Bench, first: str, second: str, every: int, start: int = 0) -> tuple[str, str, Met]:
    """Let two commands meet at every N-th place."""
    if START.name not in bench.before:
        bench.keep(START)
    pair, met = Pair(bench, first, second), Met()
    bench.reset(START)
    bench.server.fail_at(0, "")
    calls = bench.run(VERBS[first]).calls
    for place in places(calls, bench.server.requests())[start::every]:
        before = len(met.wrong)
        pair.meet_at(place, met)
        for text in met.wrong[before:]:
            print(text, file=sys.stderr, flush=True)
    return first, second, met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every N-th place; writes no result file")
    parser.add_argument("--keep", action="store_true", help="with --every: writes two_commands_sampled.md")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if reason := available():
        raise SystemExit(reason)
    pairs = [(first, second) for first in VERBS for second in VERBS]
    rows, wrong = [], Counter[str]()
    with ProcessPoolExecutor(given.workers, initializer=end_with_parent) as pool:
        futures = [pool.submit(run_pair, first, second, given.every) for first, second in pairs]
        for future in futures:
            first, second, met = future.result()
            rows.append((first, second, met.points, met.refused, met.serial, len(met.wrong)))
            wrong["points"] += met.points
            wrong["wrong"] += len(met.wrong)
    head = ("stands still", "runs meanwhile", "places", "refused, naming who and where", "as one after the other",
            "wrong")  # fmt: skip
    notes = [f"{wrong['points']:,} meetings of {len(pairs)} pairs of commands. {wrong['wrong']} wrong.", "",
             "Server: the fake one, in memory; annotators: simulated."]  # fmt: skip
    full = given.every == 1
    name, title = ("two_commands", "") if full else ("two_commands_sampled", f": every {given.every}th place")
    record.write(name, f"Two commands at once{title}", head, rows, notes, keep=full or given.keep)
    sys.exit(wrong["wrong"] > 0)


if __name__ == "__main__":
    main()
