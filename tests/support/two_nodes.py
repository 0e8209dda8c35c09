"""A real two-node Ray cluster on loopback, for tests and fault runs. Every process of it ends by its own id."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

NODE = {"object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}


class TwoNodes:
    """A head and a second node, each a raylet of its own."""

    def __init__(self, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, "num_cpus": cpus, "include_dashboard": False}
        )
        self.second: Any = self.cluster.add_node(**NODE, num_cpus=cpus)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_the_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)  # SIGKILL to its processes


def on_loopback() -> contextlib.AbstractContextManager[object]:
    """Ray would replace 127.0.0.1 by the address of this machine; in every process that joins it must not."""
    import ray._private.services as services

    return mock.patch.object(services, "get_node_ip_address", lambda address=None: "127.0.0.1")


@contextlib.contextmanager
def two_nodes(cpus: int = 1) -> Iterator[TwoNodes]:
    """Start both nodes; the environment that they need holds until the end, and child processes inherit it."""
    tests = Path(__file__).parents[1]
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: Ray puts sockets into it
    (folder / "ray").mkdir()
    environment = {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_failure_threshold": "2",  # a lost node is noticed sooner
        "RAY_health_check_period_ms": "1000",
        "RAY_ADDRESS": "",
        "PYTHONPATH": f"{tests}:{tests.parent}",  # the nodes find ndec and the works of the tests
    }
    with mock.patch.dict(os.environ, environment), on_loopback():
        nodes = TwoNodes(cpus)
        try:
            yield nodes
        finally:
            nodes.cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
