"""Ray: two real nodes on this machine, one lost in mid-run; the same bytes as local."""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, open_plan
from ndec_builder.core.executor.runner import open_pool, run_shards
from ndec_builder.core.storage import sha256_file
from support import shard_work
from support.needs import free_port, missing
from support.two_nodes import TwoNodes, two_nodes

pytestmark = pytest.mark.cluster
FORTY = Plan(40, 2, "f" * 64)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    if importlib.util.find_spec("ray") is None:
        missing("Ray is not installed: pip install 'ndec-builder[cluster]'")
    with two_nodes() as nodes:
        yield nodes


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
        run_shards(folder, plan, functools.partial(shard_work.poisoned, folder), Engine("ray", address=nodes.address))
    assert (folder / "tries").read_text() == "xxx"
    assert sorted(results(folder)) == ["shard-00000.txt", "shard-00002.txt"]


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
    run_shards(folder, FORTY, functools.partial(shard_work.slow, folder), Engine("ray", address=nodes.address))
    thread.join()
    assert 4 <= lost_at[0] < 20  # in mid-run
    assert results(folder) == results(local)
    where = {line.split()[1] for line in (folder / "where.log").read_text().splitlines()}
    assert len(where - {"1"}) == 2, "both nodes did shards before one was lost"
    assert capfd.readouterr().out == ""  # stdout is for results
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
