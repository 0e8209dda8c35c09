# mypy: ignore-errors
"""Ends the server when the `ndec` that started it has exited, even by SIGKILL."""

from __future__ import annotations

import os
import signal
import threading


def end_with_owner():
    """Watch the pipe that the owner holds open: it ends with the owner, whatever ended that."""
    pipe = int(os.environ.pop("NDEC_OWNER"))
    os.set_inheritable(pipe, False)

    def wait():
        while os.read(pipe, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="ndec-owner").start()
