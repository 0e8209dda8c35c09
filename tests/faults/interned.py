"""CPython alone, without ndec: what names of files that come and go leave in its dictionary of interned strings.

    python tests/faults/interned.py [--rounds 4000]

Until Python 3.11 pathlib interns each part of a path. A name that nobody uses any more leaves the dictionary, but its
slot stays taken until the dictionary is rebuilt, with three slots for each name in use. So it can grow once, by a
doubling, and then not again. A round makes as many new names as one of soak.py does (340, most of them temporary files
and numbers of processes); as many names are in use as there (120,000, from the libraries that ndec loads).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.process_memory import allocated  # noqa: E402

IN_USE, A_ROUND = 120_000, 340
STEP = 1.0  # MiB: a change that is shown; the dictionary has 4


def changes(rounds: int) -> list[tuple[int, float]]:
    """(round, MiB of blocks not freed) at the start, at each change of a MiB and at the end."""
    kept = [sys.intern(f"in use {number}") for number in range(IN_USE)]
    found = [(0, allocated())]
    for number in range(1, rounds + 1):
        for name in range(A_ROUND):
            Path(f"round {number} {name}")
        now = allocated()
        if abs(now - found[-1][1]) >= STEP or number == rounds:
            found.append((number, now))
    assert len(kept) == IN_USE
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loop:  # a process that has loaded nothing else since
        for number, size in changes(given.rounds):
            print(number, f"{size:.2f}")
        return
    words = [sys.executable, __file__, "--loop", "--rounds", str(given.rounds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    title = "CPython's dictionary of interned strings alone"
    notes = [f"The start, each change by {STEP:.0f} MiB or more, the end. {IN_USE:,} names in use, {A_ROUND} a round."]
    record.write("interned", title, ("round", "MiB of blocks not freed"), rows, notes, keep=True)


if __name__ == "__main__":
    main()
