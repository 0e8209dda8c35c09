"""Random sequences of mine, push, label, pull, resolve, recheck, ingest and export at full size.

python tests/faults/label_sequences.py --count 200 --out tests/faults/results/label_sequences.md
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.sequences import run_sequence


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    total, faults, done = Counter[str](), list[str](), 0
    for seed in range(options.first, options.first + options.count):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            sequence = run_sequence(Path(folder) / "bench", seed, options.steps)
        total += sequence.counts
        done += 1
        if sequence.faults:
            faults += [f"seed {seed}: {fault}" for fault in sequence.faults]
            print("\n".join([*sequence.steps, *faults[-len(sequence.faults) :]]), flush=True)
    steps = ", ".join(f"{count} {name}" for name, count in sorted(total.items()))
    command = f"python tests/faults/label_sequences.py {' '.join(sys.argv[1:])}"
    text = (
        f"# Random sequences of labelling and exporting\n\n{datetime.date.today()}: `{command}`\n\n"
        f"{done} sequences; steps done: {steps}.\n\n"
        + ("\n".join(f"- {fault}" for fault in faults) or "No label was contradicted, and all counts added up.")
        + "\n"
    )
    print(text)
    if options.out:
        options.out.write_text(text, "utf-8")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
