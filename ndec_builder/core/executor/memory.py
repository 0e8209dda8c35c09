"""Memory of this process that was freed, but not returned to the system."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h


def return_freed_memory() -> None:
    """Give the system what Arrow and the C library keep of freed memory; the latter only with glibc.

    Each thread frees into an arena of its own, and these grow by several MiB a round if one process runs many commands.
    """
    if arrow := sys.modules.get("pyarrow"):  # importing it takes longer than a short command
        arrow.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def return_large_blocks() -> None:
    """From now on, blocks of a megabyte and more go back to the system as soon as they are freed.

    glibc raises its own limit up to 32 MiB when such blocks are freed, and keeps those below it.
    """
    if option := getattr(ctypes.CDLL(None), "mallopt", None):
        option(_M_MMAP_THRESHOLD, 2**20)


def use_few_arenas() -> None:
    """From now on, new threads share two arenas of the C library; by default there are eight for each core.

    For a server of many threads: each arena keeps what its threads once needed at most.
    """
    if option := getattr(ctypes.CDLL(None), "mallopt", None):
        option(_M_ARENA_MAX, 2)
