"""If a test run is killed, its processes end with it, and the next run removes its folders."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from support.needs import in_memory

_PR_SET_PDEATHSIG = 1


def ends_with_us(number: int = signal.SIGTERM) -> Callable[[], None]:
    """`preexec_fn` of a Popen for a server: the signal comes when the thread that started it ends, even if killed."""
    library = ctypes.CDLL(None)  # loaded before the fork
    return lambda: library.prctl(_PR_SET_PDEATHSIG, number)


@contextlib.contextmanager
def folder_in_memory(name: str) -> Iterator[Path]:
    """A temporary folder, in memory if possible. Those that killed runs left under the same name are removed."""
    parent = in_memory() or Path(tempfile.gettempdir())
    for left in parent.glob(f"{name}-pid*-*"):
        process = left.name.removeprefix(f"{name}-pid").partition("-")[0]
        if not Path("/proc", process).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-pid{os.getpid()}-", dir=parent) as folder:
        yield Path(folder)
