"""Bad nodes of a Ray cluster, made for real: what ndec says, and that the next run has the bytes of one machine.

    python tests/faults/cluster_inputs.py [--only WORD]

Each case starts a cluster on loopback whose tasks run on one bad node: without bfloat16 instructions, with another
Pillow from the package index, short of memory (Ray's monitor kills the worker; `ulimit -v`), or with the workspace
mounted read-only (as root). Writes tests/faults/results/cluster_inputs.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.small_bench import take_pictures  # noqa: E402
from ndec_builder.candidates.search.ranges import RangedSearch  # noqa: E402
from ndec_builder.candidates.search.selection import Caps  # noqa: E402
from ndec_builder.candidates.search.shared_vectors import SharedSearch, VectorFiles, save_array  # noqa: E402
from ndec_builder.core.errors import NdecError  # noqa: E402
from ndec_builder.core.executor.base import Engine  # noqa: E402
from ndec_builder.core.executor.ray import ray_session  # noqa: E402
from ndec_builder.edits.make import run as edit  # noqa: E402
from ndec_builder.edits.settings import EditConfig  # noqa: E402
from ndec_builder.embeddings.embed import run as embed  # noqa: E402
from ndec_builder.embeddings.settings import EmbedConfig  # noqa: E402
from support.every_verb import Sizes, fresh_copy, hashes, ingested, small_shards, verbs  # noqa: E402
from support.two_nodes import NODE, two_nodes  # noqa: E402

MODEL = "efficientnet-lite0"
OLD_PILLOW = "pillow==12.0.0"
DIM = 512
LIMIT = 8 << 30  # bytes of `ulimit -v`
# Runs in each worker of the node, as a batch system's limit would be in force.
LIMITED = f"""
import resource, sys
if any("default_worker" in word for word in sys.orig_argv):
    resource.setrlimit(resource.RLIMIT_AS, ({LIMIT}, {LIMIT}))
"""
# `ray start`, which would replace 127.0.0.1 by the address of this machine
JOIN = """
from support.two_nodes import on_loopback
from ray.scripts.scripts import main
with on_loopback():
    main()
"""
Run = Callable[[Path, dict[str, Any]], object]


@contextlib.contextmanager
def bad_node(**environment: str) -> Iterator[dict[str, Any]]:
    """A cluster whose only node for tasks has this environment; yields what makes a verb use it."""
    with two_nodes(cpus=0) as nodes, ray_session():
        nodes.cluster.add_node(**NODE, num_cpus=1, env_vars=environment)
        yield {"engine": "ray", "ray_address": nodes.address}


@contextlib.contextmanager
def good_nodes() -> Iterator[dict[str, Any]]:
    with two_nodes() as nodes, ray_session():
        yield {"engine": "ray", "ray_address": nodes.address}


def refused(run: Callable[[], object]) -> str:
    """What ndec says."""
    try:
        run()
    except NdecError as error:
        return " ".join(str(error).split())
    return "NOT REFUSED"


def then_good(root: Path, one: Path, run: Run) -> str:
    """Whether the same verb on good nodes then gives every file of one machine."""
    with good_nodes() as on:
        run(root, on)
    found, wanted = hashes(root), hashes(one)
    wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return "yes" if not wrong else f"NO: {', '.join(wrong[:3])}"


def embed_pool(root: Path, on: dict[str, Any]) -> None:
    embed(EmbedConfig(root, "pool", MODEL, threads=1, shard_size=8, whitening="shipped", **on))


def edit_references(root: Path, on: dict[str, Any]) -> None:
    edit(EditConfig(root, 12, **on))


def case(folder: Path, name: str, run: Run, at: Iterator[Any] | Any) -> tuple[str, str]:
    """The message on the bad node, and whether the next run is fine."""
    one, root = (fresh_copy(folder / "fresh", folder / f"{name}-{which}") for which in ("one", "bad"))
    run(one, {})
    with at as on:
        said = refused(lambda: run(root, on))
    return said, then_good(root, one, run)


def two_precisions(folder: Path) -> Iterator[tuple[str, str, str]]:
    """One of two nodes has no bfloat16; then a verb that compares with stored vectors on such a node alone."""
    one, root = (fresh_copy(folder / "fresh", folder / f"precision-{which}") for which in ("one", "bad"))
    embed_pool(one, {})
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    with two_nodes(cpus=0) as nodes, ray_session():
        nodes.cluster.add_node(**NODE, num_cpus=1)
        nodes.cluster.add_node(**NODE, num_cpus=1, env_vars=limits)
        said = refused(lambda: embed_pool(root, {"engine": "ray", "ray_address": nodes.address}))
    yield "embed: one of two nodes without bfloat16", said, then_good(root, one, embed_pool)
    steps = verbs(MODEL, Sizes(known=24, top=8))
    for name in ("embed", "mine"):
        steps[name](folder / "precision-bad", {"workers": 1})
    one = fresh_copy(root, folder / "prelabel-one")
    steps["prelabel"](one, {})
    with bad_node(**limits) as on:
        said = refused(lambda: steps["prelabel"](root, on))
    shutil.rmtree(root / "candidates" / "test" / "prelabel", ignore_errors=True)
    yield "prelabel: the node without bfloat16", said, then_good(root, one, steps["prelabel"])


def other_packages(folder: Path) -> Iterator[tuple[str, str, str]]:
    target = folder / "old-pillow"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), OLD_PILLOW]
    subprocess.run(command, check=True)
    path = {"PYTHONPATH": f"{target}:{ROOT / 'tests'}:{ROOT}"}
    said, after = case(folder, "packages", edit_references, bad_node(**path))
    yield f"edit: a node with {OLD_PILLOW.replace('==', ' ')}", said, after


def read_only(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The workspace is mounted read-only on the node, in a mount namespace of its own."""
    if os.geteuid() != 0:
        yield "edit: the workspace read-only on the node", "not made: needs root", ""
        return

    @contextlib.contextmanager
    def mounted() -> Iterator[dict[str, Any]]:
        root = folder / "readonly-bad"
        with two_nodes(cpus=0) as nodes, ray_session():
            start = f"mount --make-rprivate / && mount --bind {root} {root} && mount -o remount,ro,bind {root} && "
            start += f'exec {sys.executable} -c "{JOIN}" start --address {nodes.address} --num-cpus 1 --block '
            start += f"--node-ip-address 127.0.0.1 --object-store-memory {NODE['object_store_memory']}"
            log = folder / "node.log"
            with log.open("wb") as file:
                process = subprocess.Popen(["unshare", "-m", "sh", "-c", start], stdout=file, stderr=file)
            try:
                deadline = time.monotonic() + 60
                while len([1 for node in nodes.cluster.global_state.node_table() if node["Alive"]]) < 3:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"the node did not start: {log.read_text()[-2000:]}")
                    time.sleep(0.2)
                yield {"engine": "ray", "ray_address": nodes.address}
            finally:
                process.terminate()
                process.wait(30)

    said, after = case(folder, "readonly", edit_references, mounted())
    yield "edit: the workspace read-only on the node", said, after


def memory(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Ray's monitor kills each worker, as if other programs had taken the memory; then `ulimit -v` is too low."""
    monitor = {"RAY_memory_usage_threshold": "0.05", "RAY_memory_monitor_refresh_ms": "50"}
    said, after = case(folder, "monitor", embed_pool, bad_node(**monitor))
    yield "embed: Ray's memory monitor kills the workers", said, after

    queries, references = folder / "queries.npy", folder / "references.npy"
    save_array(queries, np.ones((2048, DIM), np.float16))
    np.lib.format.open_memmap(references, "w+", np.float16, (6_000_000, DIM))  # 6 GB of holes
    sides = [VectorFiles((path,), (n,), DIM, None, "f") for path, n in ((queries, 2048), (references, 6_000_000))]
    (folder / "limited").mkdir()
    (folder / "limited" / "sitecustomize.py").write_text(LIMITED)
    with bad_node(PYTHONPATH=f"{folder / 'limited'}:{ROOT / 'tests'}:{ROOT}") as on:
        engine = Engine(on["engine"], threads=0, address=on["ray_address"])
        search = RangedSearch(SharedSearch(*sides), Caps(50, 1, 1), engine, folder / "scratch", "f")
        said = refused(search.run)
    yield f"search: 6 GB of references, workers limited to {LIMIT >> 30} GiB", said, "–"


CASES: dict[str, Callable[[Path], Iterator[tuple[str, str, str]]]] = {
    "precision": two_precisions,
    "packages": other_packages,
    "readonly": read_only,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"one of {', '.join(CASES)}; writes no result")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="cluster-inputs-") as name, small_shards(4):
        folder = Path(name)
        take_pictures(folder / "in", None, references=24, basic=24, pool=48)
        ingested(folder / "fresh", folder / "in")
        for word, made in CASES.items():
            for row in made(folder) if given.only in ("", word) else ():
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    head = ("case", "what ndec says", "same bytes on good nodes afterwards")
    notes = ["One machine with AVX512-BF16; the nodes are real Ray nodes on loopback."]
    record.write("cluster_inputs", "Bad nodes of a cluster", head, rows, notes, keep=not given.only)
    sys.exit(any("NO" in after or "NOT REFUSED" in said for _, said, after in rows))


if __name__ == "__main__":
    main()
