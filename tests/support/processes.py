"""If a test run is killed, its processes end with it, and the next run removes its folders."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ndec_builder.annotation.label_studio.server import running_state
from support.needs import in_memory

_PR_SET_PDEATHSIG = 1


def ends_with_us(number: int = signal.SIGTERM) -> Callable[[], None]:
    """`preexec_fn` of a Popen for a server: the signal comes when the thread that started it ends, even if killed."""
    library = ctypes.CDLL(None)  # loaded before the fork
    return lambda: library.prctl(_PR_SET_PDEATHSIG, number)


def fork() -> int:
    """`os.fork` whose child leaves the parent's garbage alone.

    A compiled OpenVINO model in it would wait for its threads when it is freed, and a fork has none of them.
    """
    child = os.fork()
    if child == 0:
        gc.freeze()
    return child


def end_with_parent() -> None:
    """Initializer of a ProcessPoolExecutor, which otherwise leaves its workers running if the script is killed."""
    ends_with_us(signal.SIGKILL)()


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


@contextlib.contextmanager
def server_of_a_killed_owner(data: Path, port: int, env: Path) -> Iterator[dict[str, Any]]:
    """Start Label Studio in another process, then kill -9 that process; yields the server's state before the kill.

    A server that still runs at the end is killed, so a test that fails leaves none behind.
    """
    code = (
        "import time; from pathlib import Path\n"
        "from ndec_builder.annotation.label_studio.server import LabelStudioServer as L\n"
        f"L(Path({str(data)!r}), {port}, env=Path({str(env)!r})).start(); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout and owner.stdout.readline() == b"up\n"
        state = running_state(data)
        owner.send_signal(signal.SIGKILL)  # as when memory runs out: nothing is cleaned up
    assert state is not None
    try:
        yield state
    finally:
        if (left := running_state(data)) is not None and left["pid"] == state["pid"]:
            os.killpg(left["pid"], signal.SIGKILL)
