"""The join of hash banks at full size: CPU time of 10⁶ hashes × 10⁵ queries, and a sample checked by brute force.

python benchmarks/hamming.py > benchmarks/results/hamming.md
"""

from __future__ import annotations

import time

import faiss
import numpy as np
from machine import machine

from ndec_builder.league.bank.hamming import hamming_join

BANK, QUERIES, SAMPLE, RADIUS = 1_000_000, 100_000, 50, 31


def main() -> None:
    rng = np.random.default_rng(0)
    bank = rng.integers(0, 256, (BANK, 32), dtype=np.uint8)
    queries = rng.integers(0, 256, (QUERIES, 32), dtype=np.uint8)
    near = rng.choice(QUERIES, QUERIES // 50, replace=False)  # copies with 0 … 49 bits changed
    flips = np.zeros((len(near), 256), np.uint8)
    for row in flips:
        row[rng.choice(256, rng.integers(0, 50), replace=False)] = 1
    queries[near] = bank[rng.integers(0, BANK, len(near))] ^ np.packbits(flips, axis=1)
    started, cpu = time.perf_counter(), time.process_time()
    blocks = list(hamming_join(queries, bank, RADIUS))
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    found = {pair for block in blocks for pair in zip(block[0].tolist(), block[1].tolist(), strict=True)}
    sample = np.concatenate([near[: SAMPLE // 2], rng.choice(QUERIES, SAMPLE // 2, replace=False)])
    table = np.array([bin(value).count("1") for value in range(256)], np.uint16)
    wanted = {
        (int(query), int(row))
        for query in sample
        for row in np.flatnonzero(table[bank ^ queries[query]].sum(axis=1) <= RADIUS)
    }
    right = {pair for pair in found if pair[0] in set(sample.tolist())} == wanted
    print("# Hamming join\n\nHash bank against harmless pictures (`benchmarks/hamming.py`).\n")
    print(f"{machine()}\n")
    print("| hashes × queries | CPU seconds | wall seconds | pairs within 31 | 50 queries checked by brute force |")
    print("|---|---|---|---|---|")
    print(f"| 10⁶ × 10⁵ | {cpu:.0f} | {wall:.0f} | {len(found):,} | {'yes' if right else 'NO'} ({len(wanted)} pairs) |")
    print(f"| 10⁷ × 10⁵, projected: the cost is that of all pairs | {10 * cpu:.0f} | {10 * wall:.0f} | | |")
    print(f"\nFAISS {faiss.__version__}, IndexBinaryFlat, {faiss.omp_get_max_threads()} threads.")


if __name__ == "__main__":
    main()
