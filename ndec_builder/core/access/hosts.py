"""Hosts: which ones a person allows, and connections that reach public addresses only.

Addresses are checked after name resolution, for every connection: a redirect, or a name that changes its address,
leads nowhere else. A private host must be named by the person: as a source, or as `private:http://HOST`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ndec_builder.core.config import recorded_configs
from ndec_builder.core.errors import UsageError

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

ALLOW = "NDEC_ALLOW"  # environment variable: hosts that the person named, for worker processes too
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "hf")
SCHEMES = ("http", "https", *OBJECT_STORES)  # that a table may name at all
_PORTS = {"http": 80, "https": 443}
_PRIVATE = "private:"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddressError(Exception):
    """A host has an address that is not public. No OSError: urllib3 must not take it for a broken connection."""


@dataclass(frozen=True)
class AllowedHost:
    """`https://host`, `https://*.host:8080`, `s3://bucket`; private: it may have an address that is not public."""

    scheme: str
    host: str
    port: int | None
    private: bool = False

    def matches(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether an address is on this host. Without a port of its own it stands for the port of its scheme."""
        usual = _PORTS.get(scheme)
        return scheme == self.scheme and (port or usual) == (self.port or usual) and fnmatch.fnmatch(host, self.host)

    def covers(self, uri: str) -> bool:
        """Whether a uri is on this host."""
        parts = urlsplit(uri)
        return self.matches(parts.scheme, parts.hostname or "", parts.port)


def parse_allowed(text: str) -> AllowedHost:
    """Read an entry of `--allow`. Raises UsageError."""
    private, address = text.startswith(_PRIVATE), text.removeprefix(_PRIVATE)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in SCHEMES or not parts.hostname or parts.path.strip("/") or parts.username or parts.query:
        raise UsageError(
            f"allow is {text!r}; expected a scheme and a host such as https://images.example.org, "
            f"https://*.example.org or s3://bucket (schemes: {', '.join(SCHEMES)}; private:http://HOST for one in a "
            "private network)"
        )
    return AllowedHost(parts.scheme, parts.hostname, port, private)


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, also one inside an IPv6 address.

    Loopback, private and link-local networks (where clouds keep their metadata service), multicast and reserved
    addresses are not.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def check_public(host: str, port: int) -> None:
    """Raise PrivateAddressError when one of the addresses of a host is not public, OSError when it has none."""
    for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not is_public(str(place[0])):
            raise PrivateAddressError(_not_public(host, str(place[0])))


def _not_public(host: str, address: str) -> str:
    where = host if host == address else f"{host} ({address})"
    return f"{where} is not a public address"


@functools.lru_cache(maxsize=65_536)
def private_problem(host: str, port: int) -> str:
    """Why a host that a table names is refused: its address; empty for a public one, and for an unknown name."""
    try:
        check_public(host, port)
    except PrivateAddressError as error:
        return str(error)
    except (OSError, UnicodeError):
        return ""  # reading it says so
    return ""


def private_address(uri: str) -> str:
    """Why a web address is refused when its host is private; empty for public hosts and for anything else."""
    try:
        parts = urlsplit(uri)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return private_problem(parts.hostname, port) if parts.hostname and port and parts.scheme in _PORTS else ""


def named_hosts(*sources: object) -> list[str]:
    """The entries for the web addresses among sources that a person named."""
    found = []
    for source in sources:
        try:
            parts = urlsplit(str(source or ""))
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            continue
        if parts.scheme in _PORTS and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            found.append(f"{_PRIVATE}{parts.scheme}://{host}{port}")
    return found


@contextlib.contextmanager
def trusted(config: Any) -> Iterator[None]:
    """While it is open, private hosts may be contacted that a person named: sources of the workspace, and `allow`.

    config: of a stage. Worker processes get the names in the environment.
    """
    configs = [{name: getattr(config, name, None) for name in ("source", "images", "allow")}]
    if (root := getattr(config, "workspace", None)) is not None:
        for path in sorted((root / "images").glob("*.run.json")):
            configs += recorded_configs(path)
    entries = [entry for one in configs for entry in named_hosts(one.get("source"), one.get("images"))]
    allow = [str(entry) for one in configs for entry in one.get("allow") or ()]
    entries += [entry for entry in allow if entry.startswith(_PRIVATE)]
    before = os.environ.get(ALLOW)
    os.environ[ALLOW] = " ".join(dict.fromkeys([*(before or "").split(), *entries]))
    try:
        yield
    finally:
        os.environ.pop(ALLOW)
        if before is not None:
            os.environ[ALLOW] = before


def session(allow: Iterable[str] = ()) -> Any:
    """A `requests.Session` that connects to public addresses, and to private ones that `allow` or NDEC_ALLOW names.

    It sends no stored passwords. Raises PrivateAddressError.
    """
    import requests

    entries = [*allow, *os.environ.get(ALLOW, "").split()]
    trusted = [host for host in map(parse_allowed, entries) if host.private]
    made = requests.Session()
    made.trust_env = False  # no netrc and no proxy: never send a person's password to a host that a table names
    made.max_redirects = 5
    adapter = public_only(lambda scheme, host, port: any(entry.matches(scheme, host, port) for entry in trusted))
    for scheme in _PORTS:
        made.mount(f"{scheme}://", adapter)
    return made


def public_only(permits: Callable[[str, str, int], bool]) -> HTTPAdapter:
    """An adapter of requests that connects to public addresses, and to what `permits(scheme, host, port)`.

    Every connection is checked, so redirects are too. Raises PrivateAddressError.
    """
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def checked(connection: Any, scheme: str, connect: Callable[[], Any]) -> Any:
        host = connection.host.strip("[]")
        if permits(scheme, host, connection.port):
            return connect()
        try:
            check_public(host, connection.port)
        except socket.gaierror:
            return connect()  # reports it in urllib3's own way
        opened = connect()
        peer = str(opened.getpeername()[0])  # a name may change its address between the check and the connection
        if not is_public(peer):
            opened.close()
            raise PrivateAddressError(_not_public(host, peer))
        return opened

    class Plain(HTTPConnection):
        def _new_conn(self) -> Any:
            return checked(self, "http", super()._new_conn)

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> Any:
            return checked(self, "https", super()._new_conn)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return adapter
