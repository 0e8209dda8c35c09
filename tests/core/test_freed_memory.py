"""Memory between blocks that stay is given back."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ctypes
from pathlib import Path
from ndec_builder.core.executor.memory import return_freed_memory
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

blocks = [library.malloc(100_000) for _ in range(1000)]  # below the size that gets pages of its own
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the last one, on top, keeps the heap
    library.free(block)
before = resident()
return_freed_memory()
print(before - resident())
"""


def test_gaps_of_the_heap_are_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 80_000_000
