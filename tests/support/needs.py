"""What tests need from the machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from shutil import disk_usage

import pytest


def missing(reason: str) -> None:
    """What a test needs is missing: skip on somebody's machine, fail under CI=true.

    Only for what `make install` and `.ci/run` install. What CI's machine itself may lack (root, namespaces, IPv6,
    systemd, git, a GPU) is a plain skip, and each run of pytest ends with the count and the reasons.
    """
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason} (CI=true: this must be there)")
    pytest.skip(reason)


def in_memory() -> Path | None:
    """Where tests write: result files and migrations wait for a disk, and no test cuts the power. None: as usual."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) and disk_usage(shared).free > 2e9 else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
