"""Micro average precision of 500,000 predictions, compared with other implementations of the same protocol.

    python benchmarks/metrics.py [--quick] [--isc2021 DIR]

--isc2021  a checkout of facebookresearch/isc2021, whose `isc.metrics` then evaluates the same list
The plain loop sorts tuples and walks through the rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import machine, write_result

from ndec_builder.evaluation.metrics.ranked import micro_average_precision

MUST = 0.2  # seconds


def plain(scores: list[float], match: list[bool], positives: int) -> float:
    rows = sorted(zip(scores, match, strict=True), key=lambda row: (-row[0], row[1]))
    found, total = 0, 0.0
    for place, (_, hit) in enumerate(rows, start=1):
        if hit:
            found += 1
            total += found / place
    return total / positives


def isc2021(checkout: Path, scores: np.ndarray, match: np.ndarray, positives: int) -> tuple[Callable[[], float], ...]:
    """Its numbers alone (sort, curve, area), and its `evaluate` on objects, as its command runs it."""
    sys.path.insert(0, str(checkout))
    from isc.metrics import (  # type: ignore[import-not-found]
        GroundTruthMatch,
        PredictedMatch,
        average_precision,
        evaluate,
        precision_recall,
    )

    rows = [PredictedMatch(f"q{i}", f"r{i}", score) for i, score in enumerate(scores.tolist())]
    truth = [GroundTruthMatch(f"q{i}", f"r{i}") for i in np.flatnonzero(match)]
    truth += [GroundTruthMatch(f"unfound{i}", "r0") for i in range(positives - len(truth))]

    def numbers() -> float:
        precisions, recalls, _ = precision_recall(match, scores, positives)
        return float(average_precision(recalls, precisions))

    return numbers, lambda: float(evaluate(truth, rows).average_precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 rows, one round")
    parser.add_argument("--isc2021", type=Path)
    given = parser.parse_args()
    rows, rounds = (50_000, 1) if given.quick else (500_000, 7)
    rng = np.random.default_rng(0)
    scores, match = np.round(rng.random(rows), 6), rng.random(rows) < 0.01  # many ties
    positives = max(5_009, int(match.sum()))
    pairs = rng.permutation(10 * rows)[:rows]
    contestants: dict[str, Callable[[], float]] = {
        "ndec: micro_average_precision": lambda: micro_average_precision(scores, match, positives),
        "ndec: the same, with its check for pairs that come twice": lambda: micro_average_precision(
            scores, match, positives, pairs
        ),
        "plain Python loop": lambda: plain(scores.tolist(), match.tolist(), positives),
    }
    if given.isc2021:
        alone, whole = isc2021(given.isc2021, scores, match, positives)
        contestants["isc2021: precision_recall, average_precision"] = alone
        contestants["isc2021: evaluate (also checks ids and finds ranks)"] = whole
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for name, work in contestants.items():
            start = time.perf_counter()
            values[name] = work()
            seconds[name].append(time.perf_counter() - start)
    ours = values["ndec: micro_average_precision"]
    assert all(abs(value - ours) < 1e-12 for value in values.values()), values
    lines = [
        f"# Micro average precision of {rows:,} predictions", "", machine(), "",
        f"One list with many equal scores, {int(match.sum()):,} matches, {positives:,} ground-truth pairs; all give "
        f"{ours:.12f}. Medians of {rounds} rounds, taken in turn. Must reach: {MUST} s.", "",
        "| what | seconds |", "|---|---|",
        *(f"| {name} | {statistics.median(times):.3f} |" for name, times in seconds.items()),
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text) if given.quick else write_result("metrics", text)


if __name__ == "__main__":
    main()
