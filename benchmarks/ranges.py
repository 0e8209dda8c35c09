"""The search of `ndec mine` in ranges of the pool, as on a cluster, against the same search in one piece.

    python benchmarks/ranges.py            # 200,000 pool × 20,000 references × 512-d
    python benchmarks/ranges.py --quick    # a tenth of both

Each run is its own process with one worker, so CPU seconds show what the split costs: files, floors that are known
later, lists of each range, queries that are searched again. All runs must find identical pairs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine, write_result
from vectors import DIM, read_vectors, write_vectors

POOL, REFERENCES = 200_000, 20_000
# top, per pool image, per reference; the third: hubs are full at once, and more pairs are wanted than exist near them
CASES = {"usual": (20_000, 1, 10), "many per image": (50_000, 5, 10), "one per reference": (20_000, 1, 1)}
RANGES = (0, 1, 4, 16, 64)  # 0: in one piece, without files


def child(case: str, ranges: int, folder: Path) -> None:
    """Run one search and print its figures as JSON."""
    import faiss
    import torch

    from ndec_builder.candidates.search.exact import top_pairs
    from ndec_builder.candidates.search.ranges import RangedSearch
    from ndec_builder.candidates.search.selection import Caps
    from ndec_builder.candidates.search.shared_vectors import SharedSearch, share_vectors
    from ndec_builder.core.executor.base import Engine
    from ndec_builder.core.storage import read_json

    faiss.omp_set_num_threads(torch.get_num_threads())
    caps = Caps(*CASES[case])
    pool, references = read_vectors(folder, "pool"), read_vectors(folder, "reference")
    scratch = folder / f"{case}-{ranges}"
    start, rounds = time.process_time(), []
    if ranges:
        shared = SharedSearch(share_vectors(pool, scratch, "pool"), share_vectors(references, scratch, "reference"))
        search = RangedSearch(shared, caps, Engine(here=True), scratch, "f", range_size=-(-len(pool) // ranges))
        pairs = search.run()
        rounds = [read_json(path) for path in sorted(scratch.glob("round-*/shards/*/plan.json"))]
        depth = min(max(8, 2 * caps.max_per_query) * 4 ** (len(rounds) - 2), len(references))
    else:
        pairs = top_pairs(range(len(pool)), pool, range(len(references)), references.load(),
                          top=caps.top, max_per_query=caps.max_per_query,
                          max_per_reference=caps.max_per_reference)  # fmt: skip
        depth = 0
    seconds = time.process_time() - start
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in
                                     (pairs.queries, pairs.references, pairs.scores))).hexdigest()  # fmt: skip
    again = [(plan["items"], -(-plan["items"] // plan["shard_size"])) for plan in rounds[2:]]
    size = sum(path.stat().st_size for path in scratch.rglob("shard-*.npz"))
    print(json.dumps({"cpu": seconds, "depth": depth, "again": again, "bytes": size, "pairs": len(pairs),
                      "sha256": digest}))  # fmt: skip


def measure(case: str, ranges: int, folder: Path) -> dict[str, object]:
    done = subprocess.run([sys.executable, __file__, "--child", case, str(ranges), str(folder)], capture_output=True,
                          text=True, check=True)  # fmt: skip
    print(done.stdout, end="", file=sys.stderr)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(pool: int, references: int, results: dict[str, dict[int, dict[str, object]]]) -> str:
    """The figures of each case by number of ranges, as Markdown."""
    lines = [
        "# Search in ranges", "", machine(), "",
        f"{pool:,} pool images × {references:,} references × {DIM} dimensions, synthetic (`benchmarks/vectors.py`). "
        "Identical pairs, order and scores in each case: asserted. The ranges run one after the other in one process.",
        "", "| case: top, per image, per reference | ranges | CPU seconds | of one piece | depth of the last lists | "
        "queries searched again, round by round | ranges searched again | work files, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for case, rows in results.items():
        assert len({row["sha256"] for row in rows.values()}) == 1, case
        for ranges, row in rows.items():
            again: list[list[int]] = row["again"]
            label = f"{case}: {', '.join(f'{value:,}' for value in CASES[case])}"
            tail = " | – | – | – | –"
            if ranges:
                tail = (f" | {row['depth']} | {', '.join(f'{items:,}' for items, _ in again) or 'none'} | "
                        f"{sum(count for _, count in again)} | {row['bytes'] / 1e6:.1f}")  # fmt: skip
            share = f"{row['cpu'] / rows[0]['cpu']:.2f}"
            lines.append(f"| {label} | {ranges or 'one piece'} | {row['cpu']:.1f} | {share}{tail} |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    pool, references = (POOL // 10, REFERENCES // 10) if quick else (POOL, REFERENCES)
    with tempfile.TemporaryDirectory(prefix="ranges-") as name:
        folder = Path(name)
        write_vectors(folder, pool, references)
        results = {case: {ranges: measure(case, ranges, folder) for ranges in RANGES} for case in CASES}
    write_result("ranges" if not quick else "ranges_quick", table(pool, references, results))


if __name__ == "__main__":
    main()
