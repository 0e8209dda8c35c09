"""Arrow alone, without ndec: what its allocator keeps when short threads write and read small tables.

    python tests/faults/arrow_pool.py [--rounds 4000]

One new thread a round, as `pull`, `push` and the decoders start them; after each round the allocator is asked to return
what it does not use. It runs once with Arrow's own allocator (mimalloc) and once with the C library's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from faults import record  # noqa: E402
from faults.process_memory import memory_of, parts_of_memory  # noqa: E402


def work(path: Path, number: int) -> None:
    rows = 40 + number % 17
    names = [f"image-{number}-{row}" for row in range(rows)]
    columns = {"id": names, "uri": ["x" * (20 + row % 9) for row in range(rows)]}
    vectors = np.random.default_rng(number).normal(size=(rows, 64)).astype(np.float32)
    pq.write_table(pa.table(columns | {"vector": pa.array(list(vectors))}), path)
    pq.read_table(path).to_pylist()


def loop(rounds: int) -> None:
    """Print at eight places: round, MiB of the allocator's mappings, MiB of the process, bytes that Arrow holds."""
    pool, shown = pa.default_memory_pool(), {rounds >> shift for shift in range(8)}
    with tempfile.TemporaryDirectory(prefix="ndec-arrow-") as folder:
        for number in range(rounds + 1):
            thread = threading.Thread(target=work, args=(Path(folder) / f"{number % 8}.parquet", number))
            thread.start()
            thread.join()
            pool.release_unused()
            if number in shown:
                values = f"{parts_of_memory()[1]:.2f} {memory_of(os.getpid()):.1f} {pa.total_allocated_bytes()}"
                print(pool.backend_name, number, values, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loop:
        return loop(given.rounds)
    rows = []
    for pool in ("mimalloc", "system"):
        words = [sys.executable, __file__, "--loop", "--rounds", str(given.rounds)]
        env = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": pool, "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        rows += [line.split() for line in done.stdout.splitlines()]
    head = ("allocator", "round", "MiB in mappings of 1 GiB", "MiB of the process", "bytes that Arrow holds")
    title = "Arrow's allocator alone"
    record.write("arrow_pool", title, head, rows, [f"pyarrow {pa.__version__}, without ndec."], keep=True)
    return None


if __name__ == "__main__":
    main()
