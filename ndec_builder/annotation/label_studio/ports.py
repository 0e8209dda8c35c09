"""Addresses and ports of the two servers: loopback by default, and never a port that another program uses."""

from __future__ import annotations

import ipaddress
import socket
import time
from urllib.parse import urlsplit

from ndec_builder.core.errors import NdecError

HOST = "127.0.0.1"


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

    Label Studio itself would silently move to the next port. Pass `wait` after ending the program that used the port:
    the system releases it a moment later than the process.
    """
    deadline = time.monotonic() + wait
    while (reason := _why_not(port, host)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if reason:
        raise NdecError(f"port {port} on {host} {reason}; choose another with `{option} NUMBER`, or end that program")


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
            return "is in use by another program"
    return ""
