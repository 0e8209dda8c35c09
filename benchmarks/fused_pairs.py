"""Cost of one pair for the fused scorer: milliseconds of one core, by step.

    python benchmarks/fused_pairs.py --manifest DIR [--queries 100] [--today CHECKOUT] [--quick]

Each query is paired with the ten best references by descriptor, the first half of what `ndec benchmark` examines. As in
`ndec benchmark --scorer fused`, references whose cosine is far below the query's best are not opened, and each picture
is prepared once. DIR is a manifest inside its workspace, whose cache of features is used: embedding is not included.
--today measures the code of another checkout on the same pairs, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from ndec_builder.candidates.geometry.fitting import single_threaded
from ndec_builder.candidates.geometry.keypoints import describe_picture
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors.fused_rescoring import WITHIN, own_sides
from ndec_builder.training.fused.edges import edge_agreement, edge_square, fit_either_tone
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.layout import compare_layouts, make_layout
from ndec_builder.training.fused.measure import PICTURE_SIDE
from ndec_builder.training.fused.model import DEFAULT_FIT, load_model
from ndec_builder.training.fused.pair_signals import PairPicture
from ndec_builder.training.fused.thumbnails import compare_thumbnails, make_thumbnail
from ndec_builder.training.views import load_picture

REFERENCES = 10
IN_CHECKOUT = (
    "import fused_pairs, json, os; fused_pairs.write_result = lambda name, text: print(text); "
    "fused_pairs.pairs_of = lambda *_: list(map(tuple, json.loads(os.environ['PAIRS']))); fused_pairs.main()"
)


def cosines(data: Dataset, workspace: Workspace) -> np.ndarray:
    """(queries, references) float32; −1 for a picture that has no descriptor."""
    sides = own_sides(workspace, data, load_model(DEFAULT_FIT), 8, "cpu")
    values = np.full((len(data.queries), len(data.references)), -1, np.float32)
    vectors = [side.vectors.astype(np.float32) for side in sides]
    values[np.ix_(sides[0].places, sides[1].places)] = vectors[0] @ vectors[1].T
    return values


def pairs_of(cosine: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The REFERENCES best references of `count` queries that are spread over all."""
    chosen = np.linspace(0, len(cosine) - 1, min(count, len(cosine))).round().astype(int).tolist()
    return [(query, row) for query in chosen for row in np.argsort(-cosine[query])[:REFERENCES].tolist()]


def examined(cosine: np.ndarray, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs whose cosine is at most WITHIN below the best one of their query."""
    return [(query, row) for query, row in pairs if cosine[query, row] >= cosine[query].max() - WITHIN]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of this process's CPU, and the result."""
    started = time.process_time()
    result = work()
    return 1e3 * (time.process_time() - started), result


def table(data: Dataset, listed: list[tuple[int, int]], pairs: list[tuple[int, int]]) -> list[str]:
    """The cost by step, as a markdown table; of the listed pairs, `pairs` are examined."""
    loads, finds, shrinks, outlines, arranges = [], [], [], [], []
    prepared: dict[tuple[str, int], PairPicture] = {}
    for side, images in (("query", data.queries), ("reference", data.references)):
        uris = images["uri"].to_pylist()
        for row in sorted({pair[side == "reference"] for pair in pairs}):
            spent, picture = timed(lambda uri=uris[row]: load_picture(data.resolve(uri), PICTURE_SIDE).convert("RGB"))  # type: ignore[misc]
            loads.append(spent)
            spent, described = timed(lambda picture=picture: describe_picture(np.asarray(picture)))  # type: ignore[misc]
            finds.append(spent)
            spent, thumbnail = timed(lambda described=described: make_thumbnail(described.grey))  # type: ignore[misc]
            shrinks.append(spent)
            spent, edges = timed(lambda described=described: edge_square(described.grey))  # type: ignore[misc]
            outlines.append(spent)
            spent, layout = timed(lambda described=described: make_layout(described.grey))  # type: ignore[misc]
            arranges.append(spent)
            prepared[side, row] = PairPicture(described, thumbnail, edges, layout)
    fitted, unfitted, thumbs, agreements, layouts = [], [], [], [], []
    for query, reference in pairs:
        one, other = prepared["query", query], prepared["reference", reference]
        sides = one.described, other.described
        spent, (geometry, _) = timed(lambda sides=sides: fit_either_tone(*sides))  # type: ignore[misc]
        (unfitted if geometry.homography is None else fitted).append(spent)
        if geometry.homography is not None:
            agreements.append(timed(lambda sides=sides, geometry=geometry: edge_agreement(*sides, geometry))[0])  # type: ignore[misc]
        spent, _ = timed(lambda one=one, other=other: compare_thumbnails(one.thumbnail, other.thumbnail))  # type: ignore[misc]
        thumbs.append(spent)
        layouts.append(timed(lambda one=one, other=other: compare_layouts(one.layout, other.layout))[0])  # type: ignore[misc]
    model = load_model(DEFAULT_FIT)
    probability_time = timed(lambda: model.probability(np.zeros((len(pairs), len(PAIR_FEATURES)), np.float32)))[0]
    parts = loads, finds, shrinks, outlines, arranges, fitted, unfitted, thumbs, agreements, layouts
    total = sum(map(sum, parts)) + probability_time
    rows = [
        ("decode and shrink an image", loads, len(loads)), ("find its keypoints", finds, len(finds)),
        ("make its thumbnail", shrinks, len(shrinks)), ("find its edges", outlines, len(outlines)),
        ("make its layout", arranges, len(arranges)),
        ("fit a pair: a homography is found", fitted, len(fitted)), ("fit a pair: none is", unfitted, len(unfitted)),
        ("compare the aligned edges of a fitted pair", agreements, len(agreements)),
        ("compare the thumbnails of a pair", thumbs, len(thumbs)),
        ("compare the layouts of a pair", layouts, len(layouts)), ("networks, a pair", [probability_time], len(pairs)),
    ]  # fmt: skip
    counts = f"{len(listed)} pairs, {len(pairs)} of them examined, of {len(prepared)} images"
    lines = [f"{counts}; CPU time of one core.", "",
             "| part | how many | ms each |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {count} | {sum(spent) / max(1, count):.2f} |" for name, spent, count in rows]
    lines.append(f"| an examined pair, all of it | {len(pairs)} | {total / len(pairs):.2f} |")
    return [*lines, f"| **a pair, all of it** | {len(listed)} | **{total / len(listed):.2f}** |"]


def of_checkout(checkout: Path, manifest: Path, listed: list[tuple[int, int]]) -> list[str]:
    """The same table by the code of another checkout, of the same pairs."""
    folders = f"{checkout.absolute()}{os.pathsep}{checkout.absolute() / 'benchmarks'}"
    environment = {**os.environ, "PYTHONPATH": folders, "OPENBLAS_NUM_THREADS": "1", "PAIRS": json.dumps(listed)}
    command = [sys.executable, "-c", IN_CHECKOUT, "--manifest", str(manifest.absolute())]
    found = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=True)
    return found.stdout.rstrip().splitlines()[4:]  # without title and machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--today", type=Path, help="checkout of the build to compare with")
    parser.add_argument("--quick", action="store_true", help="10 queries, nothing written")
    given = parser.parse_args()
    queries = 10 if given.quick else given.queries
    data = from_manifest(given.manifest)
    cosine = cosines(data, Workspace(given.manifest.parents[1]))
    listed = pairs_of(cosine, queries)
    lines = ["# What a pair costs the fused scorer", "", machine(), ""]
    if given.today:
        lines += ["## Today's build", "", *of_checkout(given.today, given.manifest, listed), "", "## New", ""]
    with single_threaded():
        lines += table(data, listed, examined(cosine, listed))
    if given.quick:
        print("\n".join(lines))
    else:
        write_result("fused_pairs", "\n".join(lines))


if __name__ == "__main__":
    main()
