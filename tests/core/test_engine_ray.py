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
from unittest import mock

import pyarrow.parquet as pq
import pytest

from faults.small_bench import take_pictures
from ndec_builder.candidates import duplicates
from ndec_builder.candidates.geometry import local_codes, table
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.search import ranges, rounds
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.executor import machines
from ndec_builder.core.executor import ray as ray_engine
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, open_plan
from ndec_builder.core.executor.runner import open_pool, run_shards
from ndec_builder.core.storage import sha256_file
from ndec_builder.training.fused import run as fused_run
from support import every_verb, range_work, shard_work
from support.described_bench import Bench
from support.needs import free_port, missing
from support.pictures import scene, textured
from support.tiny_trunk import tiny_model
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


def test_a_process_with_a_gpu_is_kept_for_the_next_task_and_nodes_use_the_limit_of_pixels_of_the_command(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDEC_MAX_PIXELS", "123456")
    claimed = nodes.cluster.add_node(**NODE, num_cpus=1, num_gpus=1)  # Ray believes it
    plan = Plan(8, 2, "f" * 64)
    folder = open_plan(tmp_path, plan)
    engine = Engine("ray", gpus=1.0, address=nodes.address)
    run_shards(folder, plan, functools.partial(shard_work.process_and_limit, folder), engine)
    nodes.cluster.remove_node(claimed)
    written = [path.read_text().split() for path in sorted(folder.glob("shard-*.txt"))]
    assert len({process for process, _ in written}) == 1  # by Ray's default four, each of which would load the model
    assert [limit for _, limit in written] == ["123456"] * 4


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
    done: list[int] = []

    def lose() -> None:
        while len(list(folder.glob("*.done.json"))) < 4:
            time.sleep(0.02)
        nodes.lose_the_second()
        done.append(len(list(folder.glob("*.done.json"))))
        (folder / "lost").touch()

    thread = threading.Thread(target=lose)
    thread.start()
    run_shards(folder, FORTY, functools.partial(shard_work.on_both_nodes, folder), on(nodes))
    thread.join()
    assert 4 <= done[0] <= 21  # in mid-run
    assert results(folder) == results(local)
    nodes_seen = set((folder / "where.log").read_text().split()) - {"1"}
    assert len(nodes_seen) == 2, "both nodes did shards before one was lost"
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


@pytest.mark.parametrize("shortlist", ["local", "both"])
def test_mining_by_local_features_on_a_cluster_has_the_bytes_of_one_machine(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shortlist: str
) -> None:
    monkeypatch.setattr(local_codes, "CODED_IMAGES", 5)  # several shards of each side
    settings = {"top": 2, "shortlist": shortlist}
    for name in ("one", "two"):
        bench = Bench(tmp_path / name)
        bench.add("reference", {f"r{i}": textured(i) for i in range(4)})
        bench.add("pool", {f"q{i}": textured(i).rotate(9) for i in range(6)})
    one = mine(MineConfig(tmp_path / "one", **settings, workers=1))
    two = mine(MineConfig(tmp_path / "two", **settings, engine="ray", ray_address=nodes.address))
    names = {"candidates.parquet", "contact_sheet.html"} | ({"local.parquet"} if shortlist == "both" else set())
    assert {name: sha256_file(one / name) for name in names} == {name: sha256_file(two / name) for name in names}
    local = pq.read_table(one / ("local.parquet" if shortlist == "both" else "candidates.parquet"))
    assert local.num_rows > 0  # the pairs of local features, not an empty table


SOME_VERBS = ("prelabel", "recheck", "edit", "train-asl --recipe fused", "benchmark --scorer fused")


@pytest.fixture(scope="module")
def by_engine(nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, str], ...]]:
    """Verb → the hashes of the workspace after it: here, and on the node that is left, in shards of 6."""
    folder = tmp_path_factory.mktemp("verbs")
    sizes, model = every_verb.Sizes(known=20, steps=2, shard=6), tiny_model(folder)
    take_pictures(folder / "in", None, references=20, basic=12, pool=30)
    steps, here = every_verb.verbs(model, sizes), every_verb.ingested(folder / "here", folder / "in")
    for name in ("embed", "mine"):
        steps[name](here, {"workers": 1})
    there = every_verb.fresh_copy(here, folder / "there")
    found: dict[str, list[dict[str, str]]] = {name: [] for name in SOME_VERBS}
    with mock.patch.object(fused_run, "SHARD_ITEMS", sizes.shard):  # sums depend on it, as on no other shard size
        for name in SOME_VERBS:
            steps[name](here, {"workers": 1})
            found[name].append(every_verb.hashes(here, caches=False))
    with ray_engine.ray_session(), every_verb.small_shards(sizes.shard):
        for name in SOME_VERBS:
            steps[name](there, {"engine": "ray", "ray_address": nodes.address})
            found[name].append(every_verb.hashes(there, caches=False))
    return {name: tuple(both) for name, both in found.items()}


@pytest.mark.parametrize("verb", SOME_VERBS)
def test_a_verb_has_the_bytes_of_one_machine(verb: str, by_engine: dict[str, tuple[dict[str, str], ...]]) -> None:
    one, two = by_engine[verb]
    assert {name for name in one.keys() | two.keys() if one.get(name) != two.get(name)} == set()
    before = [hashes for name, (hashes, _) in by_engine.items()][: SOME_VERBS.index(verb)]
    assert set(one.items()) - {item for hashes in before for item in hashes.items()}, "it wrote nothing"
