"""Cost of one pair for the fused scorer: milliseconds of one core, by step.

    python benchmarks/fused_pairs.py --manifest DIR [--queries 100] [--quick]

Each query is paired with ten references: up to three of its own group and random others, similar to the ten best by
descriptor. Keypoints are computed once per image, as in `ndec benchmark --scorer fused`. Embedding is not included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from ndec_builder.candidates.geometry.fitting import fit_pictures, single_threaded
from ndec_builder.candidates.geometry.keypoints import DescribedPicture, describe_picture
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.measure import PICTURE_SIDE
from ndec_builder.training.fused.model import DEFAULT_FIT, load_model
from ndec_builder.training.fused.thumbnails import thumbnails
from ndec_builder.training.views import load_picture

REFERENCES, OWN = 10, 3


def pairs_of(data: Dataset, count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(0)
    groups = data.references["group"].to_pylist()
    found = []
    for query in np.linspace(0, len(data.queries) - 1, min(count, len(data.queries))).round().astype(int).tolist():
        group = data.queries["group"][query].as_py()
        own = [row for row, name in enumerate(groups) if group and name == group][:OWN]
        others = [row for row in rng.permutation(len(groups)).tolist() if row not in own]
        found += [(query, row) for row in (own + others)[:REFERENCES]]
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of this process's CPU, and the result."""
    started = time.process_time()
    result = work()
    return 1e3 * (time.process_time() - started), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="10 queries, nothing written")
    given = parser.parse_args()
    single_threaded()
    data = from_manifest(given.manifest)
    pairs = pairs_of(data, 10 if given.quick else given.queries)
    loads, finds = [], []
    described: dict[tuple[str, int], DescribedPicture] = {}
    for side, table in (("query", data.queries), ("reference", data.references)):
        uris = table["uri"].to_pylist()
        for row in sorted({pair[side == "reference"] for pair in pairs}):
            spent, picture = timed(lambda uri=uris[row]: load_picture(data.resolve(uri), PICTURE_SIDE).convert("RGB"))  # type: ignore[misc]
            loads.append(spent)
            spent, described[side, row] = timed(lambda picture=picture: describe_picture(np.asarray(picture)))  # type: ignore[misc]
            finds.append(spent)
    fitted, unfitted, thumbs = [], [], []
    for query, reference in pairs:
        one, other = described["query", query], described["reference", reference]
        spent, geometry = timed(lambda one=one, other=other: fit_pictures(one, other))  # type: ignore[misc]
        (unfitted if geometry.homography is None else fitted).append(spent)
        thumbs.append(timed(lambda one=one, other=other: thumbnails(one.grey, other.grey))[0])  # type: ignore[misc]
    model = load_model(DEFAULT_FIT)
    probability_time = timed(lambda: model.probability(np.zeros((len(pairs), len(PAIR_FEATURES)), np.float32)))[0]
    total = sum(map(sum, (loads, finds, fitted, unfitted, thumbs))) + probability_time
    rows = [
        ("decode and shrink an image", loads, len(loads)), ("find its keypoints", finds, len(finds)),
        ("fit a pair: a homography is found", fitted, len(fitted)), ("fit a pair: none is", unfitted, len(unfitted)),
        ("thumbnails of a pair", thumbs, len(thumbs)), ("networks, a pair", [probability_time], len(pairs)),
    ]  # fmt: skip
    lines = ["# What a pair costs the fused scorer", "", machine(), "",
             f"{len(pairs)} pairs of {len(described)} images; CPU time of one core.", "",
             "| part | how many | ms each |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {count} | {sum(spent) / max(1, count):.2f} |" for name, spent, count in rows]
    lines += [f"| **a pair, all of it** | {len(pairs)} | **{total / len(pairs):.2f}** |"]
    if given.quick:
        print("\n".join(lines))
    else:
        write_result("fused_pairs", "\n".join(lines))


if __name__ == "__main__":
    main()
