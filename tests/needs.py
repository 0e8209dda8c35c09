"""What tests need from the machine."""

from __future__ import annotations

import os
import socket

import pytest


def missing(reason: str) -> None:
    """What a test needs is not there: skip on somebody's machine, fail under CI=true."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason} (CI=true: this must be there)")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
