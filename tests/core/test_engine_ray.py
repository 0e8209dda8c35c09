"""Ray: two real nodes on this machine, one lost in mid-run; the same bytes as local."""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.candidates import duplicates
from ndec_builder.candidates.geometry import table
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.search import ranges, rounds
from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.executor import machines
from ndec_builder.core.executor import ray as ray_engine
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, open_plan
from ndec_builder.core.executor.runner import open_pool, run_shards
from ndec_builder.core.storage import sha256_file
from ndec_builder.edits import make
from ndec_builder.edits.make import run as edit
from ndec_builder.edits.settings import EditConfig
from ndec_builder.evaluation.detectors.search import Background, Cluster, search_pairs
from support import range_work, shard_work
from support.described_bench import Bench
from support.needs import free_port, missing
from support.pictures import scene
from support.two_nodes import NODE, TwoNodes, two_nodes

pytestmark = pytest.mark.cluster
FORTY = Plan(40, 2, "f" * 64)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    if importlib.util.find_spec("ray") is None:
        missing("Ray is not installed: pip install 'ndec-builder[cluster]'")
    with two_nodes() as nodes:
        yield nodes


def on(nodes: TwoNodes) -> Engine:
    return Engine("ray", address=nodes.address)


def results(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob("shard-*.txt"))}


def test_a_cluster_that_is_not_there_or_too_small_is_one_paragraph(nodes: TwoNodes, tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(NdecError, match=f"no Ray cluster answers at {nowhere}"):
        open_pool(Engine("ray", address=nowhere), functools.partial(shard_work.square, tmp_path), 1)
    with pytest.raises(NdecError, match="no node of the Ray cluster has 64 CPUs"):
        open_pool(Engine("ray", threads=64, address=nodes.address), functools.partial(shard_work.square, tmp_path), 1)


def test_a_shard_that_kills_its_ray_worker_is_set_aside_alone(nodes: TwoNodes, tmp_path: Path) -> None:
    plan = Plan(6, 2, "f" * 64)
    folder = open_plan(tmp_path, plan)
    (folder / "deadly").touch()
    with pytest.raises(GapsError, match=r"1 of 3 shards .* tries: 1\. .*its Ray worker died"):
        run_shards(folder, plan, functools.partial(shard_work.poisoned, folder), on(nodes))
    assert (folder / "tries").read_text() == "xxx"
    assert sorted(results(folder)) == ["shard-00000.txt", "shard-00002.txt"]


def test_edited_copies_have_the_bytes_of_one_machine(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "COPIES_PER_SHARD", 3)
    copies = []
    for name, where in (("one", {}), ("two", {"engine": "ray", "ray_address": nodes.address})):
        bench = Bench(tmp_path / name)
        bench.add("reference", {f"r{i}": scene(i) for i in range(4)})
        edit(EditConfig(tmp_path / name, 8, **where))
        files = sorted((tmp_path / name / "files" / "query").glob("*.jpg"))
        tables = [bench.workspace.images("query"), bench.workspace.edits]
        copies.append([sha256_file(path) for path in (*files, *tables)])
    assert copies[0] == copies[1] and len(copies[0]) == 10


def test_matching_of_a_benchmark_has_the_bytes_of_one_machine(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    queries, references, others = (rng.normal(size=(n, 8)) for n in (30, 20, 12))
    sides = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16) for v in (queries, references, others)]
    ids = [f"q{i:02}" for i in range(30)], [f"r{i:02}" for i in range(20)]
    monkeypatch.setattr(ranges, "range_size_for", lambda *_: 9)
    how = {"k": 3, "background": Background(sides[2], Normalization(1.0, 3))}
    one = search_pairs(ids[0], sides[0], ids[1], sides[1], **how)
    two = search_pairs(ids[0], sides[0], ids[1], sides[1], **how, cluster=Cluster(on(nodes), tmp_path))
    assert len(one.query) == 90 and one.protocol == two.protocol
    for name in ("query", "reference", "scores"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert not list(tmp_path.iterdir())


def test_a_node_with_other_packages_is_refused(nodes: TwoNodes, tmp_path: Path, monkeypatch: Any) -> None:
    here = machines.Machine("here", machines.this_machine().packages | {"torch": "0.0"}, "")
    monkeypatch.setattr(ray_engine, "this_machine", lambda: here)
    plan, text = Plan(2, 2, "f" * 64), rf"has other packages than this machine: torch {version('torch')} \(here 0\.0\)"
    with pytest.raises(NdecError, match=text.replace("+", r"\+")):
        run_shards(open_plan(tmp_path, plan), plan, functools.partial(shard_work.square, tmp_path), on(nodes))


def test_a_node_lost_in_mid_run_changes_nothing(
    nodes: TwoNodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    local = open_plan(tmp_path / "local", FORTY)
    run_shards(local, FORTY, functools.partial(shard_work.square, local), Engine(here=True))
    folder = open_plan(tmp_path / "ray", FORTY)
    lost_at: list[int] = []

    def lose() -> None:
        while len(list(folder.glob("*.done.json"))) < 4:
            time.sleep(0.02)
        nodes.lose_the_second()
        lost_at.append(len(list(folder.glob("*.done.json"))))

    thread = threading.Thread(target=lose)
    thread.start()
    run_shards(folder, FORTY, functools.partial(shard_work.slow, folder), on(nodes))
    thread.join()
    assert 4 <= lost_at[0] < 20  # in mid-run
    assert results(folder) == results(local)
    where = {line.split()[1] for line in (folder / "where.log").read_text().splitlines()}
    assert len(where - {"1"}) == 2, "both nodes did shards before one was lost"
    assert capfd.readouterr().out == ""  # stdout is for results
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def bench_of(root: Path) -> Path:
    """References, a pool of crops and strangers, and background images."""
    bench = Bench(root)
    bench.add("reference", {f"r{i:02}": scene(i) for i in range(6)})
    crops = {f"crop{i:02}": scene(i).crop((0, 0, 100, 80)) for i in range(6)}
    bench.add("pool", crops | {f"other{i:02}": scene(50 + i) for i in range(30)})
    bench.add("basic", {f"b{i}": scene(100 + i) for i in range(5)})
    return root


def test_mining_that_loses_a_worker_and_a_node_has_the_bytes_of_one_machine(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "SAMPLE", 8)
    monkeypatch.setattr(table, "SHARD_SIZE", 3)
    monkeypatch.setattr(duplicates, "PAIRS_PER_SHARD", 6)
    caps = {"top": 12, "max_per_query": 2, "max_per_reference": 3, "rank_by": "normalized"}
    one = mine(MineConfig(bench_of(tmp_path / "one"), **caps))
    monkeypatch.setattr(ranges, "range_size_for", lambda *_: 2)
    monkeypatch.setattr(ranges, "RangeTask", range_work.DeadlyRange)
    root = bench_of(tmp_path / "two")
    search, again = root / "candidates" / "test" / "search", nodes.cluster.add_node(**NODE, num_cpus=1)
    lost: list[bool] = []

    def lose() -> None:
        while len(list(search.rglob("round-01/**/*.done.json"))) < 4:
            time.sleep(0.02)
        lost.append(any(search.glob("*/killed")))
        nodes.cluster.remove_node(again, allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    two = mine(MineConfig(root, engine="ray", ray_address=nodes.address, **caps))
    thread.join(10)
    assert lost == [True]
    for name in ("candidates.parquet", "geometry.parquet", "contact_sheet.html"):
        assert sha256_file(one / name) == sha256_file(two / name), name
    assert not search.exists()
