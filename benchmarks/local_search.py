"""The search by local features: milliseconds a query, memory a reference, and what it finds among many distractors.

    python benchmarks/local_search.py --manifest DIR [--references 100000] [--queries 50] [--quick]

The references of a manifest and SYNTHETIC distractors: codes of its keypoints with each bit flipped with probability
.15 and mixed between pictures, so that they are crowded like real ones. Queries: copies of the manifest. CPU time of
one core; finding the keypoints of the query (needed for the geometry of its pairs anyway) is listed on its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from machine import machine, write_result

from ndec_builder.candidates.geometry.keypoints import MIRROR_ORDER, describe_picture
from ndec_builder.candidates.search.local_index import (
    QUERY_CODES,
    REFERENCE_CODES,
    LocalIndex,
    keypoint_codes,
    spread_rows,
)
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.training.fused.measure import PICTURE_SIDE
from ndec_builder.training.views import load_picture

TOPS = (5, 10)
FLIPPED = 0.15
TARGET = 1_000_000


def described(uri: str, most: int) -> np.ndarray:
    picture = load_picture(uri, PICTURE_SIDE).convert("RGB")
    descriptors = describe_picture(np.asarray(picture)).descriptors
    return descriptors[spread_rows(len(descriptors), most)]


def crowded(codes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 16) codes near random ones of `codes`."""
    noise = np.packbits(rng.random((count, 128)) < FLIPPED, axis=1)
    made: np.ndarray = codes[rng.integers(0, len(codes), count)] ^ noise
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--references", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="2,000 references, 5 queries, nothing written")
    given = parser.parse_args()
    if given.quick:
        given.references, given.queries = 2_000, 5
    import faiss

    faiss.omp_set_num_threads(1)
    cv2.setNumThreads(1)
    data, rng = from_manifest(given.manifest), np.random.default_rng(0)
    resolve = data.resolve
    own = [keypoint_codes(described(resolve(uri), REFERENCE_CODES)) for uri in data.references["uri"].to_pylist()]
    codes = np.concatenate(own)
    more = max(0, given.references - len(own))
    counts = np.concatenate([[len(one) for one in own], rng.choice([len(one) for one in own], more)])
    parts = [codes]
    for start in range(0, more, 5_000):
        parts.append(crowded(codes, int(counts[len(own) + start : len(own) + start + 5_000].sum()), rng))
    everything = np.concatenate(parts)
    chosen = rng.choice(len(data.truth), min(given.queries, len(data.truth)), replace=False)
    pairs = [divmod(int(pair), len(data.references)) for pair in data.truth[chosen]]
    started = time.process_time()
    queries = [described(resolve(data.queries["uri"][query].as_py()), QUERY_CODES) for query, _ in pairs]
    keypoints = 1e3 * (time.process_time() - started) / len(pairs)
    rows = []
    for what, size in (("the manifest's", len(own)), ("with distractors", len(counts))):
        started = time.process_time()
        index = LocalIndex(everything[: counts[:size].sum()], counts[:size])
        built = time.process_time() - started
        started = time.process_time()
        variants = [[keypoint_codes(one), keypoint_codes(one[:, MIRROR_ORDER])] for one in queries]
        found = index.best(variants, max(TOPS))
        spent = 1e3 * (time.process_time() - started) / len(queries)
        recall = [np.mean([row in best[:top] for (_, row), best in zip(pairs, found, strict=True)]) for top in TOPS]
        rows.append((f"{size:,} {what}", counts[:size].sum(), index.bytes_per_reference, built, spent, *recall))
        print(rows[-1], flush=True)
    lines = [
        "# Search by local features", "", machine(), "",
        f"{len(pairs)} queries with up to {QUERY_CODES} keypoints, searched as they are and mirrored. Keypoints of a "
        f"query: {keypoints:.1f} ms. Distractors are SYNTHETIC.", "",
        "| references | codes | bytes a reference | build, s | ms a query | recall of 5 | recall of 10 |",
        "|---|---|---|---|---|---|---|",
        *(f"| {a} | {b:,} | {c:,.0f} | {d:.1f} | {e:.1f} | {f:.3f} | {g:.3f} |" for a, b, c, d, e, f, g in rows), "",
    ]  # fmt: skip
    if len(counts) > len(own):
        factor = TARGET / len(counts)
        lines += [
            f"Projected to {TARGET:,} references: {rows[-1][2] * TARGET / 1e9:.1f} GB; the cells grow like the root of "
            f"the codes, so {rows[-1][4] * factor**0.5:.0f} ms a query, or {rows[-1][4] * factor:.0f} ms at worst."
        ]
    if given.quick:
        print("\n".join(lines))
    else:
        write_result("local_search", "\n".join(lines))


if __name__ == "__main__":
    main()
