"""What the pool of Ray makes of a node or a worker that fails; without a cluster."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor import ray as ray_engine
from ndec_builder.core.executor.base import Failed
from ndec_builder.core.executor.machines import Machine, this_machine
from ndec_builder.core.executor.plan import Done, Shard
from ndec_builder.core.executor.ray import RayPool
from ndec_builder.core.storage import WriteError
from support.needs import missing

SHARD = Shard(0, 0, 2)
HERE = this_machine()
Answer = Callable[..., tuple[Done | Failed, Machine]]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], RayPool]:
    """A pool with one submitted shard, whose result is fetched by `answer`."""
    try:
        import ray.exceptions
    except ImportError:
        missing("Ray is not installed: pip install 'ndec-builder[cluster]'")

    def made(answer: Answer) -> RayPool:
        made = object.__new__(RayPool)
        fake = types.SimpleNamespace(wait=lambda running, **_: (running, []), get=answer, exceptions=ray.exceptions)
        made._ray, made._running, made._processors = fake, {"task": SHARD}, set()  # type: ignore[assignment]
        monkeypatch.setattr(made, "_follow_the_cluster", lambda: None)
        return made

    return made


def raising(error: Exception) -> Answer:
    def answer(*_: Any) -> tuple[Done | Failed, Machine]:
        raise error

    return answer


def test_a_worker_that_runs_out_of_memory_counts_as_a_try_of_its_shard(pool: Callable[[Answer], RayPool]) -> None:
    from ray.exceptions import OutOfMemoryError

    shard, result = pool(raising(OutOfMemoryError("Task was killed due to the node running low on memory."))).next()
    assert shard == SHARD and isinstance(result, Failed) and result.fatal is None and not result.innocent
    why = "its Ray worker was killed: out of memory (Task was killed due to the node running low on memory.)"
    assert result.text.startswith(f"{why}. Run fewer tasks on a machine at a time")


def test_a_lost_node_is_no_try_of_its_shard(pool: Callable[[Answer], RayPool]) -> None:
    from ray.exceptions import LocalRayletDiedError

    _, result = pool(raising(LocalRayletDiedError())).next()
    assert isinstance(result, Failed) and result.innocent and result.text.startswith("its node was lost")


def test_a_node_that_cannot_write_stops_the_run_and_is_named(pool: Callable[[Answer], RayPool]) -> None:
    text = "cannot write /shared/x.npy: Read-only file system; get permission to write there"
    there = replace(HERE, host="node-7")
    _, result = pool(lambda *_: (Failed(text, fatal=WriteError(text)), there)).next()
    assert isinstance(result, Failed) and isinstance(result.fatal, WriteError)
    assert str(result.fatal) == f"on the node node-7: {text}"


def test_a_failure_on_the_machine_of_the_command_names_no_node(pool: Callable[[Answer], RayPool]) -> None:
    failed = Failed("ValueError: x")
    assert pool(lambda *_: (failed, HERE)).next() == (SHARD, failed)


def test_another_type_of_processor_is_said_once_and_accepted(
    pool: Callable[[Answer], RayPool], capsys: pytest.CaptureFixture[str]
) -> None:
    done, there = Done({}, {}), replace(HERE, host="node-7", processor="avx2")
    other = pool(lambda *_: (done, there))
    assert other.next() == (SHARD, done)
    said = " ".join(capsys.readouterr().err.split())
    assert "the node node-7 has another type of processor (avx2)" in said
    other._running["task"] = SHARD
    other.next()
    assert capsys.readouterr().err == ""


def test_other_packages_stop_the_run(pool: Callable[[Answer], RayPool]) -> None:
    there = replace(HERE, host="node-7", packages=HERE.packages | {"torch": "0.0"})
    _, result = pool(lambda *_: (Done({}, {}), there)).next()
    assert isinstance(result, Failed) and isinstance(result.fatal, NdecError)
    assert "the node node-7 has other packages than this machine: torch 0.0 (here" in result.text


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(NdecError, match=r"needs Ray .*pip install 'ndec-builder\[cluster\]'"):
        ray_engine._import()
