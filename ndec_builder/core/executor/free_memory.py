"""Memory that a process may still take: what the machine has, and what limits of containers and batch systems leave."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
STATM = Path("/proc/self/statm")
# of version 2, then of version 1: the limit, the use, and the entry of memory.stat that is given back when needed
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory() -> int | None:
    """Bytes, the least of what the machine, the container and `ulimit -v` leave; None where the system does not tell.

    Memory that only holds copies of files counts as free.
    """
    known = [*_of_machine(), *_of_containers(), *_of_limit()]
    return max(0, min(known)) if known else None


def _of_machine() -> Iterator[int]:
    found = _numbers(MEMINFO)
    if "MemAvailable:" in found:
        yield found["MemAvailable:"] * 1024


def _of_containers() -> Iterator[int]:
    """What the control group of this process and the groups around it leave."""
    for line in _lines(OWN_CGROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = CGROUPS / controllers
        own = top / path.strip().lstrip("/")
        for folder in (own, *own.parents):  # in a container the path may be that of the host: only the top exists
            for limit, used, cache in _FILES:
                maximum, current = "".join(_lines(folder / limit)).strip(), "".join(_lines(folder / used)).strip()
                if maximum.isdigit() and current.isdigit():
                    yield int(maximum) - int(current) + _numbers(folder / "memory.stat").get(cache, 0)
            if folder == top:
                break


def _of_limit() -> Iterator[int]:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and (sizes := "".join(_lines(STATM)).split()):
        yield limit - int(sizes[0]) * resource.getpagesize()


def _numbers(path: Path) -> dict[str, int]:
    """First word → second one, of lines like `MemAvailable:  123 kB` and `inactive_file 123`."""
    words = (line.split() for line in _lines(path))
    return {found[0]: int(found[1]) for found in words if len(found) > 1 and found[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return []
