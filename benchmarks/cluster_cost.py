"""What a pool of 10⁷ … 10⁹ images against 10⁶ references would cost on 1, 8 and 64 nodes. Projected, not run.

    python benchmarks/cluster_cost.py [--quick]

Rates of each stage are measured here, in one run, on one core, in CPU seconds; then they are multiplied. That assumes
16 cores per node as fast as this one, that cores and nodes do not slow each other down, and a file system that is fast
enough; the table says how fast. Pictures are drawn, 640 × 480 JPEG; vectors are synthetic.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
from machine import machine, write_result
from vectors import DIM, read_vectors, write_vectors

CORES, NODES = 16, (1, 8, 64)  # per node; numbers of nodes
POOLS, REFERENCES = (10**7, 10**8, 10**9), 10**6
PAIRS = 10_000  # mined pairs, whose geometry is measured


@dataclass(frozen=True)
class Rates:
    """CPU seconds of one core, unless it says otherwise."""

    ingest: float  # per image
    embed: float  # per image
    multiply: float  # per multiplication of the search
    merge: float  # of the command, per range
    geometry: float  # per pair
    worker_mb: float  # of a worker process without references
    id_bytes: float  # of the command, per pool image: its id


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    before = time.process_time()
    yield
    into.append(time.process_time() - before)


def measure(folder: Path, images: int, queries: int, references: int) -> Rates:
    import cv2
    import faiss
    import torch

    for limit in (torch.set_num_threads, cv2.setNumThreads, faiss.omp_set_num_threads):
        limit(1)
    paths = draw(folder / "in", images)
    worker_mb = resident_mb()
    return Rates(*of_pictures(folder, paths), *of_search(folder, queries, references), of_pairs(paths), worker_mb,
                 id_bytes(paths))  # fmt: skip


def draw(folder: Path, count: int) -> list[Path]:
    from PIL import Image

    folder.mkdir()
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse, fine = (rng.integers(0, 256, (size, size * 4 // 3, 3), dtype=np.uint8) for size in (9, 120))
        layers = [Image.fromarray(part).resize((640, 480), Image.Resampling.BICUBIC) for part in (coarse, fine)]
        paths.append(folder / f"{number:05d}.jpg")
        Image.blend(*layers, 0.3).save(paths[-1], quality=85)
    return paths


def of_pictures(folder: Path, paths: list[Path]) -> tuple[float, float]:
    """Ingest and embed."""
    from ndec_builder.embeddings.backbones import load_backbone
    from ndec_builder.embeddings.extract import extract
    from ndec_builder.sources.ingest import run as ingest
    from ndec_builder.sources.settings import IngestConfig

    seconds: list[float] = []
    for workspace in ("first", "second"):  # the first loads the packages
        with timed(seconds):
            ingest(IngestConfig(folder / workspace, "pool", str(paths[0].parent)))
    backbone = load_backbone("efficientnet-lite0")
    table = pa.table({"image_id": [path.stem for path in paths], "uri": [str(path) for path in paths]})
    extract(backbone, table.slice(0, 8), str, threads=1)  # converts the model
    with timed(seconds):
        extract(backbone, table, str, threads=1)
    return seconds[1] / len(paths), seconds[2] / len(paths)


def of_search(folder: Path, queries: int, references: int) -> tuple[float, float]:
    """CPU seconds of the tasks per multiplication, and of everything else per range."""
    from ndec_builder.candidates.search import ranges
    from ndec_builder.candidates.search.selection import Caps
    from ndec_builder.candidates.search.shared_vectors import SharedSearch, share_vectors
    from ndec_builder.core.executor.base import Engine
    from ndec_builder.core.executor.plan import Shard
    from ndec_builder.core.executor.runner import Outcome

    write_vectors(folder / "vectors", queries, references)
    shared = SharedSearch(*(share_vectors(read_vectors(folder / "vectors", role), folder, role)
                            for role in ("pool", "reference")))  # fmt: skip
    shared.open()  # reads the references once
    in_tasks: list[float] = []

    @dataclass(frozen=True)
    class Timed(ranges.RangeTask):
        def __call__(self, shard: Shard) -> Outcome:
            with timed(in_tasks):
                return super().__call__(shard)

    everything: list[float] = []
    with mock.patch.object(ranges, "RangeTask", Timed), timed(everything):
        search = ranges.RangedSearch(shared, Caps(PAIRS, 1, 10), Engine(here=True), folder / "search", "f",
                                     range_size=max(1024, queries // 8))  # fmt: skip
        search.run()
    return sum(in_tasks) / (queries * references * DIM), (everything[0] - sum(in_tasks)) / sum(search.ranges)


def of_pairs(paths: list[Path]) -> float:
    """Decoding, keypoints and fit of pairs of pictures that are copies or not, in equal parts."""
    from PIL import Image

    from ndec_builder.candidates.geometry.fitting import fit_stepwise, single_threaded
    from ndec_builder.candidates.geometry.keypoints import describe_quickly

    seconds: list[float] = []
    some = paths[:40]
    with single_threaded(), timed(seconds):
        for number, path in enumerate(some):
            picture = Image.open(path).convert("RGB")
            other = picture.crop((40, 30, 600, 450)) if number % 2 else Image.open(some[number - 1]).convert("RGB")
            fit_stepwise(describe_quickly(np.asarray(picture)), describe_quickly(np.asarray(other)))
    return seconds[0] / len(some)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def id_bytes(paths: list[Path]) -> float:
    """Bytes of one id in the table of the pool, as Arrow holds it."""
    names = pa.array([f"{number:012d}-{path.stem}" for number, path in enumerate(paths)])
    return names.nbytes / len(names)


@dataclass(frozen=True)
class Cost:
    """Hours by stage, and memory in GB. `reading`: GB/s that the nodes read together during the search."""

    hours: dict[str, float]
    worker: float
    command: float
    disk_tb: float
    reading: float


def project(rates: Rates, pool: int, nodes: int, references: int = REFERENCES) -> Cost:
    from ndec_builder.candidates.search.ranges import range_size_for

    cores = nodes * CORES
    ranges = pool / range_size_for(pool, references, DIM)
    seconds = {
        "ingest": (pool + references) * rates.ingest / CORES,  # one machine
        "embed": (pool + references) * rates.embed / cores,
        "search": pool * references * DIM * rates.multiply / cores,
        "merge": ranges * rates.merge,  # one core of one machine, while the search runs
        "geometry": PAIRS * rates.geometry / cores,
    }
    vectors = pool * DIM * 2
    return Cost(
        {stage: value / 3600 for stage, value in seconds.items()},
        rates.worker_mb / 1e3 + references * DIM * 2 / 1e9,
        pool * (4 + rates.id_bytes) / 1e9,
        vectors / 1e12,
        vectors / 1e9 / seconds["search"],
    )


def text_of(rates: Rates) -> str:
    stages = ("ingest", "embed", "search", "merge", "geometry")
    lines = [
        "# Cost of a large pool (projected)", "", machine(), "",
        "**Projected from the rates below, which were measured in this run; no such pool was searched.** "
        f"{REFERENCES:,} references, {DIM} dimensions, {CORES} cores per node as fast as one core here, {PAIRS:,} "
        "mined pairs.", "",
        "| rate | one core, CPU time |", "|---|---|",
        f"| ingest | {rates.ingest * 1e3:.2f} ms an image |",
        f"| embed, efficientnet-lite0, decoding included | {rates.embed * 1e3:.2f} ms an image |",
        f"| search | {1 / rates.multiply / 1e9:.0f} · 10⁹ multiplications a second |",
        f"| merging a range, in the command | {rates.merge * 1e3:.0f} ms |",
        f"| geometry, decoding included | {rates.geometry * 1e3:.1f} ms a pair |", "",
        f"| pool | nodes | {' | '.join(f'{stage}, h' for stage in stages)} | sum without merge, h | a worker, GB | "
        "the command, GB | vectors, TB | read during the search, GB/s |",
        "|---|---|" + "---|" * (len(stages) + 5),
    ]  # fmt: skip
    for pool in POOLS:
        for nodes in NODES:
            cost = project(rates, pool, nodes)
            total = sum(hours for stage, hours in cost.hours.items() if stage != "merge")
            cells = [f"10{'⁷⁸⁹'[POOLS.index(pool)]}", nodes, *(_hours(cost.hours[stage]) for stage in stages),
                     _hours(total), f"{cost.worker:.1f}", f"{cost.command:.1f}", f"{cost.disk_tb:.2f}",
                     f"{cost.reading:.3f}"]  # fmt: skip
            lines.append(f"| {' | '.join(map(str, cells))} |")
    most = project(rates, POOLS[-1], 1)
    saturated = most.hours["search"] / most.hours["merge"]
    ingest = most.hours["search"] / most.hours["ingest"]
    lines += [
        "", "Where a stage stops scaling:", "",
        "* **ingest** reads every file once on one machine. With more than "
        f"{ingest:.0f} nodes it takes longer than the search; ingest parts of the pool on several machines, or list it "
        "without opening the files (`--look list`).",
        "* **search** scales until the command, which merges the ranges on one core, has no pause: about "
        f"{saturated:.0f} nodes, for any size of the pool. The file system must deliver the vectors at the rate of the "
        "last column.",
        "* **the command** holds the ids and bounds of all pool images; this memory does not shrink with more nodes.",
        "* **a worker** holds all references. More references than fit need other nodes; the search is not split by "
        "references.",
        "* **geometry**, duplicates, labels and everything after them depend on the number of pairs, not of images.",
        "* Not in the table: comparing duplicates (a few pairs per mined pair), copying files to the cluster, queues, "
        "and people.",
    ]  # fmt: skip
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small samples, nothing written")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="cluster-cost-") as name:
        sizes = (60, 4096, 4000) if quick else (400, 16_384, 100_000)
        text = text_of(measure(Path(name), *sizes))
    if quick:
        print(text)
    else:
        write_result("cluster_cost", text)


if __name__ == "__main__":
    main()
