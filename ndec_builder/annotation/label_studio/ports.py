"""Where the two servers listen: loopback unless told otherwise, and never on a port that somebody else uses."""

from __future__ import annotations

import ipaddress
import socket

from ndec_builder.core.errors import NdecError

HOST = "127.0.0.1"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reached_as(host: str) -> str:
    """The name that browsers use: the host itself, or this machine's name when it listens on every address."""
    return socket.gethostname() if host in ("0.0.0.0", "::") else host


def check_port_is_free(port: int, option: str, host: str = HOST) -> None:
    """Raise NdecError when something listens on the port: Label Studio would silently move to the next one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return
        except PermissionError:
            reason = "may not be opened by this user (ports below 1024 belong to the system)"
        except socket.gaierror:
            raise NdecError(f"the host {host!r} is unknown here; give an address of this machine with --host") from None
        except OSError:
            reason = "is in use by another program"
    raise NdecError(f"port {port} on {host} {reason}; choose another one with `{option} NUMBER`, or end that program")
