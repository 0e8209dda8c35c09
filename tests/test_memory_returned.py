"""Memory that a command has freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from ndec_builder import commands
from ndec_builder.annotation import serve

BLOCKS, SIZE = 10_000, 4096


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps freed memory")
def test_a_command_returns_what_it_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One small block above 40 MB of freed ones stops glibc from returning them by itself."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    held = []

    def work(config: SimpleNamespace) -> int:
        blocks = [ctypes.c_void_p(library.malloc(SIZE)) for _ in range(BLOCKS)]
        for block in blocks:
            ctypes.memset(block, 1, SIZE)
        for block in blocks[:-1]:
            library.free(block)
        held.append(resident())
        return blocks[-1].value or 0

    monkeypatch.setitem(sys.modules, "ndec_builder.made_up", SimpleNamespace(run=work))
    last = commands.Command("made-up", "", "", "made_up").run(SimpleNamespace(workspace=tmp_path))
    freed = held[0] - resident()
    library.free(ctypes.c_void_p(last))
    assert freed > 0.8 * BLOCKS * SIZE


@pytest.mark.skipif(pa.default_memory_pool().backend_name != "mimalloc", reason="this pool keeps nothing")
def test_a_command_returns_what_arrow_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's pool keeps what was freed for a while."""
    held = []

    def work(config: SimpleNamespace) -> None:
        buffers = [pa.allocate_buffer(2**20) for _ in range(64)]
        for buffer in buffers:
            ctypes.memset(buffer.address, 1, buffer.size)
        held.append(resident())
        buffers.clear()

    monkeypatch.setitem(sys.modules, "ndec_builder.made_up", SimpleNamespace(run=work))
    commands.Command("made-up", "", "", "made_up").run(SimpleNamespace(workspace=tmp_path))
    assert held[0] - resident() > 0.8 * 64 * 2**20


def test_a_waiting_server_returns_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """`annotate serve` returns from no command for weeks."""
    slept, returned = [], []
    monkeypatch.setattr(serve, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(serve, "return_freed_memory", lambda: returned.append(len(slept)))

    def check() -> None:
        if len(slept) == 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve._wait(check)
    assert returned == [10, 20, 30]


ARENAS = """
import ctypes, sys, threading
from ndec_builder.core.executor.memory import use_few_arenas
if sys.argv[1] == "few":
    use_few_arenas()
library, meet = ctypes.CDLL(None), threading.Barrier(9)
library.malloc.restype = ctypes.c_void_p
def work():
    library.malloc(1000)
    meet.wait()  # all threads live at once
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
meet.wait()
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has arenas")
def test_threads_of_a_server_share_few_arenas() -> None:
    env = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    found = {}
    for case in ("few", "as usual"):
        done = subprocess.run([sys.executable, "-c", ARENAS, case], capture_output=True, text=True, env=env, check=True)
        found[case] = done.stdout.count("<heap nr=")
    assert found["few"] <= 2 < found["as usual"]
