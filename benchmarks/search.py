"""Exact top pairs: the search of `ndec mine` against FAISS IndexFlatIP + merge and range_search_max_results.

    python benchmarks/search.py            # 200,000 pool × 100,000 references × 512-d, top 50,000
    python benchmarks/search.py --quick    # a fifth of the pool, a fifth of the references

Every run is its own process; runs follow one another and read the same part files. Pairs and order must be identical.
Seconds are those of the search, without starting Python and importing. Takes four minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine, write_result
from vectors import DIM, names_of, read_vectors, write_vectors

CAPS = {"max_per_query": 1, "max_per_reference": 10}
NO_CAPS = {"max_per_query": 0, "max_per_reference": 0}
DEPTH = 8  # references that the peer keeps of each pool image
BLOCK = 16_384
LIMIT = 1.5e9  # bytes of memory allowed in addition to the references in float16


def ours(folder: Path, pool: int, top: int, search: str, caps: dict[str, int]) -> np.ndarray:
    """Rows (query, reference) of the top pairs, in order."""
    from ndec_builder.candidates.search.exact import top_pairs

    references = read_vectors(folder, "reference").load()
    queries = read_vectors(folder, "pool", pool)
    ids = names_of("p", pool), names_of("r", len(references))
    pairs = top_pairs(ids[0], queries, ids[1], references, top=top, search=search, **caps)
    return np.stack([pairs.queries, pairs.references], axis=1)


def flat_and_merge(folder: Path, pool: int, top: int) -> np.ndarray:
    """IndexFlatIP, the best 8 of every pool image, one sort of all, the caps along it.

    FAISS's float32 scores differ from the exact ones in the last bits, which would turn neighbours around: the pairs
    near the top are scored exactly before the sort, as ours are.
    """
    import faiss

    from ndec_builder.candidates.search.caps import greedy_walk, total_order
    from ndec_builder.candidates.search.pairs import score_pairs

    references = read_vectors(folder, "reference").load()
    queries = read_vectors(folder, "pool", pool)
    index = faiss.IndexFlatIP(DIM)
    index.add(references.astype(np.float32))
    rough, columns = [], []
    for block in queries.blocks(BLOCK):
        scores, places = index.search(block.astype(np.float32), DEPTH)
        rough.append(scores)
        columns.append(places)
    scores, places = np.concatenate(rough).ravel(), np.concatenate(columns).ravel()
    best = np.argsort(-scores)[: 3 * top]
    left, right = best // DEPTH, places[best]
    exact = np.empty(len(best), np.float32)
    for start in range(0, len(best), BLOCK):
        part = slice(start, start + BLOCK)
        exact[part] = score_pairs(queries[left[part]], references, np.arange(len(left[part])), right[part])
    order = total_order(exact, left, right)
    walked = greedy_walk(left, right, order, (pool, len(references)), top=top, **CAPS)
    return np.stack([left[walked.chosen], right[walked.chosen]], axis=1)


def range_search(folder: Path, pool: int, top: int) -> np.ndarray:
    """FAISS's own way to the closest pairs: no caps, a radius that rises when there are too many."""
    import faiss
    from faiss.contrib.exhaustive_search import range_search_max_results

    references = read_vectors(folder, "reference").load()
    queries = read_vectors(folder, "pool", pool)
    index = faiss.IndexFlatIP(DIM)
    index.add(references.astype(np.float32))
    blocks = (block.astype(np.float32) for block in queries.blocks(1024))
    _, limits, _, columns = range_search_max_results(index, blocks, 0.3, max_results=top)
    rows = np.repeat(np.arange(pool), np.diff(limits).astype(np.int64))
    return np.stack([rows, columns.astype(np.int64)], axis=1)


RUNS = {
    "auto": lambda folder, pool, top: ours(folder, pool, top, "auto", CAPS),
    "faiss": lambda folder, pool, top: ours(folder, pool, top, "faiss", CAPS),
    "uncapped": lambda folder, pool, top: ours(folder, pool, top, "auto", NO_CAPS),
    "flat": flat_and_merge,
    "range": range_search,
}


def child(name: str, folder: Path, pool: int, top: int) -> None:
    """Run one and print its figures as JSON; the pairs go to a file."""
    import faiss
    import torch

    faiss.omp_set_num_threads(torch.get_num_threads())
    start = time.perf_counter(), time.process_time()
    pairs = RUNS[name](folder, pool, top)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    np.save(folder / f"{name}-{pool}.npy", pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    digest = hashlib.sha256(pairs.astype(np.int64).tobytes()).hexdigest()
    print(json.dumps({"seconds": seconds[0], "cpu": seconds[1], "peak": peak, "pairs": len(pairs), "sha256": digest}))


def measure(name: str, folder: Path, pool: int, top: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", name, str(folder), str(pool), str(top)]
    print(f"running {name} on {pool:,} pool images", file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        child(options.run[0], Path(options.run[1]), int(options.run[2]), int(options.run[3]))
        return
    pool, references = (40_000, 20_000) if options.quick else (200_000, 100_000)
    top, part = pool // 4, pool // 4
    with tempfile.TemporaryDirectory(prefix="ndec-search-") as name:
        folder = Path(name)
        write_vectors(folder, pool, references)
        full = {name: measure(name, folder, pool, top) for name in ("auto", "flat")}
        assert full["auto"]["sha256"] == full["flat"]["sha256"], "pairs or their order differ"
        # the peer runs before and after ours, and its faster run counts: the machine's own pace changes
        order = ("flat", "faiss", "flat", "range", "uncapped")
        runs = [(name, measure(name, folder, part, top // 4)) for name in order]
        small = {name: min((r for n, r in runs if n == name), key=lambda r: r["seconds"]) for name in dict(runs)}
        assert small["faiss"]["sha256"] == small["flat"]["sha256"], "pairs or their order differ"
        want, got = (
            {tuple(pair) for pair in np.load(folder / f"{n}-{part}.npy").tolist()} for n in ("uncapped", "range")
        )
    write_result(
        "search-quick" if options.quick else "search", table(pool, references, top, part, full, small, want, got)
    )


def table(pool: int, references: int, top: int, part: int, full: dict, small: dict, want: set, got: set) -> str:
    from ndec_builder.candidates.search.bf16 import has_bf16

    allowed = references * DIM * 2 + LIMIT
    lines = [
        "# Search",
        "",
        machine(),
        "",
        f"Exact top pairs among {references:,} references of {DIM} dimensions, at most 1 per pool image and 10 per "
        "reference. Synthetic unit vectors, see `benchmarks/vectors.py`. Identical pairs and order: asserted.",
        "",
        "| search | pool | top | seconds | CPU seconds | GFLOP/s | times as fast | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = "ndec, " + ("bf16 first pass" if has_bf16() else "FAISS first pass (no bf16 here)")
    rows = [
        (first, pool, top, full["auto"], full["flat"]),
        (f"IndexFlatIP, best {DEPTH} of each, merge", pool, top, full["flat"], full["flat"]),
        ("ndec, bf16 off", part, top // 4, small["faiss"], small["flat"]),
        (f"IndexFlatIP, best {DEPTH} of each, merge", part, top // 4, small["flat"], small["flat"]),
        ("range_search_max_results, no caps", part, top // 4, small["range"], small["flat"]),
    ]
    for name, size, count, run, base in rows:
        rate = 2 * size * references * DIM / run["seconds"] / 1e9
        lines.append(
            f"| {name} | {size:,} | {count:,} | {run['seconds']:.1f} | {run['cpu']:.1f} | {rate:.0f} "
            f"| {base['seconds'] / run['seconds']:.2f} | {run['peak'] / 1e6:.0f} |"
        )
    fits = "yes" if full["auto"]["peak"] <= allowed else "NO"
    lines += [
        "",
        f"Peak memory of the first row within references in float16 + 1.5 GB = {allowed / 1e6:.0f} MB: {fits}.",
        f"`range_search_max_results(radius 0.3, max_results {top // 4:,})` returned {len(got):,} pairs; of the exact "
        f"top {len(want):,} without caps it lacks {len(want - got):,}. It knows no caps, and its pairs come in the "
        "order of the pool, not of the scores.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
