"""Sockets that listen wider than loopback, found with real sockets of a real process."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio.ports import Listener, listeners, open_to_others

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="reads Linux' /proc")
_LISTEN = """
import socket, sys
held = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


def _listen(host: str, *name: str) -> tuple[subprocess.Popen[str], int]:
    """A process that listens there; `name` stands in its command line."""
    child = subprocess.Popen(
        [sys.executable, "-c", _LISTEN, host, *name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    return child, int(child.stdout.readline())


@pytest.mark.parametrize(
    ("host", "name", "told"),
    [
        ("0.0.0.0", "ndec", True),
        ("127.0.0.1", "ndec", False),
        ("0.0.0.0", "label-studio", True),
        ("127.0.0.1", "label-studio", False),
        ("0.0.0.0", "another-program", False),
        ("::", "ndec", True),
        ("::1", "ndec", False),
    ],
)
def test_only_our_servers_that_listen_wider_are_reported(host: str, name: str, told: bool) -> None:
    if ":" in host and not Path("/proc/net/tcp6").is_file():
        pytest.skip("no IPv6 here")
    child, port = _listen(host, name)
    try:
        found = [listener for listener in open_to_others() if listener.port == port]
        assert bool(found) is told
        if found:
            assert found[0].pid == child.pid and str(port) in str(found[0]) and name in found[0].command
    finally:
        child.communicate()


def test_addresses_are_read_as_the_kernel_means_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert [entry.address for entry in listeners() if entry.port == port] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "wide"),
    [("127.0.0.1", False), ("127.8.9.1", False), ("::1", False), ("::ffff:127.0.0.1", False), ("0.0.0.0", True),
     ("::", True), ("192.168.1.4", True), ("::ffff:10.0.0.1", True)],
)  # fmt: skip
def test_what_counts_as_wide(address: str, wide: bool) -> None:
    assert Listener(address, 1, 1, "").is_wide is wide


def test_without_proc_nothing_is_claimed(tmp_path: Path) -> None:
    assert open_to_others(tmp_path) == []
