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
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record, syscalls, two_hosts  # noqa: E402
from faults.labelling_bench import Bench  # noqa: E402
from faults.schedule import STEPS, Schedule  # noqa: E402
from faults.schedule_checks import check_end, check_rows  # noqa: E402
from support.processes import end_with_parent, folder_in_memory  # noqa: E402


def run_schedule(schedule: Schedule, count: int) -> None:
    """Draw and do `count` steps; what is wrong is in `schedule.wrong`."""
    first = ["push", "label", "pull", "backup"]
    for name in [*first, *schedule.random.choices(list(STEPS), list(STEPS.values()), k=count)]:
        schedule.step(name)
        check_rows(schedule, name)
        if schedule.wrong:
            return
    check_end(schedule)


@dataclass
class Result:
    """What some schedules found."""

    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run_schedules(seeds: list[int], steps: int) -> Result:
    """Run schedules one after another on one bench."""
    result = Result()
    with folder_in_memory("random-schedules") as folder:
        folder.chmod(0o755)
        bench = Bench(folder)
        try:
            for seed in seeds:
                schedule = Schedule(bench, seed)
                run_schedule(schedule, steps)
                result.counts += schedule.counts
                result.refusals += schedule.refusals
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
    with ProcessPoolExecutor(given.workers, initializer=end_with_parent) as pool:
        parts = [seeds[start : start + 10] for start in range(0, len(seeds), 10)]
        for one in pool.map(run_schedules, parts, [given.steps] * len(parts)):
            total.counts += one.counts
            total.refusals += one.refusals
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
        "Refusals:", "",
        *(f"* {count} × {text}" for text, count in sorted(total.refusals.items(), key=lambda one: (-one[1], one[0]))),
    ]  # fmt: skip
    keep = given.first == 0 and given.count == 200 and not given.seed
    record.write(
        "random_schedules", "Random schedules of two users on two hosts", ("what", "count"), rows, notes, keep=keep
    )
    sys.exit(bool(total.wrong))


if __name__ == "__main__":
    main()
