"""Addresses and ports of the two servers: loopback by default, and never a port that another program uses.

Also finds servers of ndec on this machine that other machines can reach, from the tables in Linux's /proc: every socket
that is not bound to loopback.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ndec_builder.core.errors import NdecError

HOST = "127.0.0.1"
_LISTENS = "0A"
_OURS = re.compile(r"label[-_]studio|ndec_builder|(^|[\s/])ndec(\s|$)")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def public_host(host: str) -> str:
    """The host name for browsers: the host itself, or this machine's name when the server listens on every address."""
    return socket.gethostname() if host in ("0.0.0.0", "::") else host


def page_origins(url: str) -> set[str]:
    """Origins under which a browser may show the Label Studio at this address; loopback has several names."""
    parts = urlsplit(url)
    hosts = {parts.netloc}
    if is_loopback(parts.hostname or ""):
        hosts |= {f"{host}:{parts.port}" for host in ("127.0.0.1", "localhost", "[::1]")}
    return {f"{parts.scheme}://{host}" for host in hosts}


def check_port_is_free(port: int, option: str, host: str = HOST, wait: float = 0) -> None:
    """Raise NdecError when something still listens on the port after `wait` seconds.

    The message names the process that listens, where this user may see it, and the `option` that takes another number.
    Label Studio itself would silently move to the next port. Pass `wait` after ending the program that used the port:
    the system releases it a moment later than the process.
    """
    deadline = time.monotonic() + wait
    while (reason := _why_not(port, host)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if reason:
        raise NdecError(f"port {port} on {host} {reason}; choose another with {option}, or end that program")


def _why_not(port: int, host: str) -> str:
    """Why this port cannot be listened on; empty when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            return "may not be opened by this user (ports below 1024 belong to the system)"
        except socket.gaierror:
            raise NdecError(f"the host {host!r} is unknown here; give an address of this machine with --host") from None
        except OSError:
            return f"is in use by {_user_of(port)}"
    return ""


def _user_of(port: int) -> str:
    """The process that listens on this port, in words."""
    holders = [listener for listener in listeners() if listener.port == port and listener.pid]
    return f"process {holders[0].pid} ({holders[0].command[:80]})" if holders else "another program"


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket. pid 0 and an empty command mean that the process belongs to another user."""

    address: str
    port: int
    pid: int
    command: str

    @property
    def is_wide(self) -> bool:
        """Whether other machines can reach it."""
        found = ipaddress.ip_address(self.address)
        mapped = getattr(found, "ipv4_mapped", None)
        return not (mapped or found).is_loopback

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to ndec or to Label Studio."""
        return bool(_OURS.search(self.command))

    def __str__(self) -> str:
        where = f"[{self.address}]" if ":" in self.address else self.address
        return f"{where}:{self.port} (process {self.pid}: {self.command[:80]})"


def open_to_others(proc: Path = Path("/proc")) -> list[Listener]:
    """Sockets of ndec and Label Studio that listen beyond loopback, by port; empty on systems without /proc."""
    found = (listener for listener in listeners(proc) if listener.is_wide and listener.is_ours)
    return sorted(found, key=lambda listener: (listener.port, listener.address))


def listeners(proc: Path = Path("/proc")) -> list[Listener]:
    """Every listening TCP socket of this machine (of this container), in no fixed order."""
    sockets = {inode: place for name in ("tcp", "tcp6") for inode, place in _table(proc / "net" / name)}
    if not sockets:
        return []
    owners = _owners(proc, set(sockets))
    return [Listener(*place, *owners.get(inode, (0, ""))) for inode, place in sockets.items()]


def _table(path: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """(inode, (address, port)) of the listening rows of /proc/net/tcp or tcp6."""
    try:
        lines = path.read_text("ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        cells = line.split()
        if len(cells) > 9 and cells[3] == _LISTENS:
            address, _, port = cells[1].partition(":")
            yield cells[9], (_address(address), int(port, 16))


def _address(text: str) -> str:
    """The kernel prints an address as 32-bit words in the machine's byte order."""
    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return str(ipaddress.ip_address(packed))


def _owners(proc: Path, inodes: set[str]) -> dict[str, tuple[int, str]]:
    """inode → (pid, command line) of the processes that this user may inspect."""
    owners: dict[str, tuple[int, str]] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for folder in proc.glob("[0-9]*"):
        try:
            held = {target for entry in (folder / "fd").iterdir() if (target := _target(entry))}
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:  # it has exited, or belongs to another user
            continue
        for name in held & wanted.keys():
            owners[wanted[name]] = (int(folder.name), command)
    return owners


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed in the meantime
        return ""
