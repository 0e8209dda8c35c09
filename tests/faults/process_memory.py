"""Memory, open files and CPU time of processes, as Linux and the C library tell them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def tree_of(pid: int) -> list[int]:
    """A process and its children of children; nothing for number 0."""
    found = [pid] if pid else []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) in found:
            found.append(int(path.parent.name))
    return found


def memory_of(pid: int) -> float:
    """Anonymous MiB: what the process itself asked for. Pages of files come and go as the system likes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def parts_of_memory() -> tuple[float, float, float]:
    """Anonymous MiB of this process in the C library's heap, in mappings of 1 GiB and more, and in the others."""
    heap = arena = maps = 0.0
    size, name = 0, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            begin, end = (int(part, 16) for part in first.split("-"))
            size, name = end - begin, " ".join(rest.split()[4:])
        elif first == "Anonymous:":
            found = int(rest.split()[0]) / 1024
            if name == "[heap]":
                heap += found
            elif not name and size >= 2**30:
                arena += found
            else:
                maps += found
    return heap, arena, maps


class _Blocks(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "parts", "fast_parts", "maps", "mapped", "a", "b", "in_use", "free", "top")
    ]


def allocated() -> float:
    """MiB of this process in blocks of the C library that were not freed: what grows if something is kept."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Blocks
    found = library.mallinfo2()
    return float(found.in_use + found.mapped) / 2**20


def processor_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def handles_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
