"""A pool ten times as large: ten times the time at the same memory; and a projection for 9 million × 1 million.

    python benchmarks/growth.py            # 50,000 and 500,000 pool × 50,000 references × 512-d
    python benchmarks/growth.py --quick    # 10,000 and 100,000 × 20,000

The projection multiplies the measured rate; prices, cores and GPUs are flags. Embedding is added if its measured rates
are given.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from machine import machine, write_result
from vectors import DIM, names_of, read_vectors, write_vectors

TOP = 2_000  # the same for both pools: memory must not depend on the pool
POOL, REFERENCES = 9_000_000, 1_000_000


@dataclass(frozen=True)
class Run:
    seconds: float
    peak: int  # bytes


def child(folder: Path, pool: int) -> None:
    from ndec_builder.candidates.search.exact import top_pairs

    references = read_vectors(folder, "reference").load()
    queries = read_vectors(folder, "pool", pool)
    ids = names_of("p", pool), names_of("r", len(references))
    import faiss  # noqa: F401 (loading it is not searching)
    import torch  # noqa: F401

    start = time.perf_counter()
    pairs = top_pairs(ids[0], queries, ids[1], references, top=TOP)
    seconds = time.perf_counter() - start
    assert len(pairs) == TOP
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def measure(folder: Path, pool: int) -> Run:
    print(f"searching {pool:,} pool images", file=sys.stderr)
    command = [sys.executable, __file__, "--run", str(folder), str(pool)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cores", type=int, default=32, help="cores of the CPU machine of the projection")
    parser.add_argument("--core-efficiency", type=float, default=0.8, help="assumed, of 32 cores against the measured")
    parser.add_argument("--gpu-tflops", type=float, default=312, help="published dense fp16 peak; 312: NVIDIA A100")
    parser.add_argument("--gpu-efficiency", type=float, default=0.2, help="assumed share of that peak in FAISS")
    parser.add_argument("--core-price", type=float, default=0.04, help="assumed, dollars per core and hour")
    parser.add_argument("--gpu-price", type=float, default=2.0, help="assumed, dollars per GPU and hour")
    parser.add_argument("--cpu-images", type=float, help="images embedded per second and core, as measured")
    parser.add_argument("--gpu-images", type=float, help="images embedded per second and GPU, as measured")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        child(Path(options.run[0]), int(options.run[1]))
        return
    pool, references = (10_000, 20_000) if options.quick else (50_000, 50_000)
    with tempfile.TemporaryDirectory(prefix="ndec-growth-") as name:
        write_vectors(Path(name), 10 * pool, references)
        before, large, after = (measure(Path(name), size) for size in (pool, 10 * pool, pool))
    small = min(before, after, key=lambda run: run.seconds)
    write_result("growth-quick" if options.quick else "growth", table(pool, references, small, large, options))


def table(pool: int, references: int, small: Run, large: Run, options: argparse.Namespace) -> str:
    import os

    ratio, more = large.seconds / small.seconds, large.peak - small.peak
    lines = [
        "# Growth of the search",
        "",
        machine(),
        "",
        f"Exact top {TOP:,} of a pool among {references:,} references of {DIM} dimensions. Synthetic unit vectors, see "
        "`benchmarks/vectors.py`. The small pool is searched before and after the large one; the faster run counts.",
        "",
        "| pool | seconds | GFLOP/s | peak memory, MB |",
        "|---|---|---|---|",
    ]
    for size, run in ((pool, small), (10 * pool, large)):
        rate = 2 * size * references * DIM / run.seconds
        lines.append(f"| {size:,} | {run.seconds:.1f} | {rate / 1e9:.0f} | {run.peak / 1e6:.0f} |")
    lines += [
        f"| ten times the pool | × {ratio:.2f} | | {more / 1e6:+.0f} |",
        "",
        f"Within 15 % of 10: {'yes' if abs(ratio / 10 - 1) <= 0.15 else 'NO'}. The pool's ids and bounds are held in "
        "memory, some 100 bytes an image; its vectors are not.",
        "",
        f"## Projected, not measured: {POOL:,} pool × {REFERENCES:,} references × {DIM}-d",
        "",
        "| machine | search, hours | embedding, hours | cost, $ | how |",
        "|---|---|---|---|---|",
    ]
    work, images = 2 * POOL * REFERENCES * DIM, POOL + REFERENCES
    here = 2 * 10 * pool * references * DIM / large.seconds
    cores = os.cpu_count() or 1
    rows = [
        (f"this CPU, {cores} cores", here, cores * options.core_price, cores, options.cpu_images, "measured rate"),
        (
            f"CPU, {options.cores} cores",
            here / cores * options.cores * options.core_efficiency,
            options.cores * options.core_price,
            options.cores * options.core_efficiency,
            options.cpu_images,
            f"measured rate per core, {options.core_efficiency:.0%} of it on many cores (assumed)",
        ),
    ]
    for count in (1, 8):
        how = f"{options.gpu_tflops:g} TFLOP/s published peak × {options.gpu_efficiency:.0%} (assumed)"
        rate = count * options.gpu_tflops * 1e12 * options.gpu_efficiency
        rows.append((f"{count} GPU", rate, count * options.gpu_price, count, options.gpu_images, how))
    for name, rate, price, units, images_rate, how in rows:
        search = work / rate / 3600
        embed = images / (images_rate * units) / 3600 if images_rate else None
        cost = (search + (embed or 0)) * price
        shown = "–" if embed is None else f"{embed:.1f}"
        lines.append(f"| {name} | {search:.2f} | {shown} | {cost:.2f} | {how} |")
    lines += [
        "",
        f"Assumed prices: {options.core_price:g} $ per core-hour, {options.gpu_price:g} $ per GPU-hour. No GPU was "
        "there to measure on. Embedding is counted where its rates are given (`--cpu-images`, `--gpu-images`); a cost "
        "without it is that of the search alone.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
