"""Who runs this process and where, and whether a lock on a file also holds on other machines."""

from __future__ import annotations

import contextlib
import pwd
import re
import socket
import stat
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOUNTS = Path("/proc/self/mountinfo")
_ONE_MACHINE = {"tmpfs", "ramfs", "overlay", "zfs"}  # no block device, and still on this machine only
_SHARED_LOCKS = {"ceph", "gfs2", "ocfs2", "gpfs"}  # file systems of clusters whose `flock` holds on all machines


def user_name(uid: int) -> str:
    """A user's name, or `uid N` without one, as in some containers. Environment variables do not matter."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def owner_text(name: str) -> str:
    """Who may open a path, or the folder that hides it: the first one that can be seen. Empty if none can."""
    path = Path(name).absolute()
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = place.lstat()
            return (
                f": {place} belongs to user {user_name(found.st_uid)} and has the mode "
                f"{stat.S_IMODE(found.st_mode):o}; run this as that user, or let that user change its rights"
            )
    return ""


def running_system() -> str:
    """The running kernel: containers on one machine share it, and with it the locks."""
    try:
        return BOOT_ID.read_text("utf-8").strip()
    except OSError:
        return socket.gethostname()


def is_elsewhere(holder: dict[str, Any]) -> bool:
    """Whether a lock's holder (`host`, `system`) runs under a different kernel, so that `flock` may not see it."""
    return holder.get("host") != socket.gethostname() and holder.get("system") != running_system()


def locks_reach(path: Path) -> bool:
    """Whether `flock` on a file excludes every machine that can write it. False if that is not known.

    A disk of this machine, NFS unless it is mounted with local locks, and file systems of clusters.
    """
    try:
        device, kind, options = _mount_of(path.resolve())
    except (OSError, ValueError):
        return False
    if kind.startswith("nfs"):
        return not options & {"nolock", "local_lock=flock", "local_lock=all"}
    if kind == "lustre":
        return "flock" in options
    return kind in _ONE_MACHINE | _SHARED_LOCKS or (device.startswith("/dev/") and not kind.startswith("fuse"))


def _mount_of(path: Path) -> tuple[str, str, set[str]]:
    """(device, type, options) of the mount that holds a path. Raises ValueError without one."""
    found: tuple[int, tuple[str, str, set[str]]] | None = None
    for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
        first, _, second = line.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), first.split()[4])  # a space is \040
        kind, device, more = second.split(" ", 2)
        if path.is_relative_to(place) and (found is None or len(place) >= found[0]):  # a later mount covers an earlier
            found = len(place), (device, kind, {*first.split()[5].split(","), *more.split(",")})
    if found is None:
        raise ValueError(path)
    return found[1]
