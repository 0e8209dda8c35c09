"""Random sequences of mine, push, label, pull, resolve, recheck, ingest and export at full size.

python tests/faults/label_sequences.py [--count 200] [--seconds S]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from support.sequences import run_sequence  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further sequence after so long")
    options = parser.parse_args()
    begun = time.monotonic()
    total, faults, done = Counter[str](), list[str](), 0
    for seed in range(options.first, options.first + options.count):
        if time.monotonic() - begun > options.seconds:
            break
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            sequence = run_sequence(Path(folder) / "bench", seed, options.steps)
        total += sequence.counts
        done += 1
        if sequence.faults:
            faults += [f"seed {seed}: {fault}" for fault in sequence.faults]
            print("\n".join([*sequence.steps, *faults[-len(sequence.faults) :]]), flush=True)
    record.write(
        "label_sequences",
        "Random sequences of labelling and exporting",
        ("what", "count"),
        [("sequences", done), *((f"{name}", count) for name, count in sorted(total.items())), ("faults", len(faults))],
        [
            "A fault: a picture that is exported in a role which contradicts what people said of its bytes; counts "
            "that do not add up; after a push, a pair that waits with a picture that was replaced, that waits twice, "
            "or that waits nowhere although nobody labelled its pictures of today. Half of the pages with a replaced "
            "picture were opened before, and are labelled.",
            "",
            *(f"* {fault}" for fault in faults),
        ],
        keep=not options.first,
    )
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
