"""What a table may refer to: files in the source's folder, and hosts that the person allows. One place for all kinds.

The author of a parquet file, a csv or a dataset must not choose which of your other files ndec reads.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ndec_builder.core.access.hosts import OBJECT_STORES, SCHEMES, AllowedHost, private_problem
from ndec_builder.core.access.remote import is_chained
from ndec_builder.core.addresses import Cell, container, parse_address

ESCAPES_FOLDER = "its path leads out of the folder of the file that names it"
LEADS_OUT = (
    "a symbolic link that leads out of the folder, which is not followed for safety; --follow-links DIR follows links "
    "into DIR"
)
OUTSIDE = "an absolute path outside of the source's folder; --follow-links DIR allows files in DIR"
NOT_PLAIN = "not a regular file: a broken link, a pipe, a socket or a device"
CHAINED = "a chained address (::), which a table must not use"
NO_NAME = "a name that no file and no address can have"
PASSWORD = "an address with a user name or password"
OTHER_TABLE = "a cell of a remote table, which a table must not name"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PATHS = ("file", "local")
_ODD = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True)
class References:
    """The rule for one source. roots: local folders whose files may be read · allow: hosts that the person allows."""

    roots: tuple[Path, ...]
    allow: tuple[AllowedHost, ...] = ()

    def resolve(self, text: str, table: str) -> tuple[str, str]:
        """Return (local path or uri, why it is refused; empty when it is not) of what a table names.

        table: path or uri of the table, whose folder is where relative paths start. Contacts nothing but name servers.
        """
        scheme = _SCHEME.match(text)
        if is_chained(text):
            return text, CHAINED
        if scheme and scheme[1].lower() in _PATHS:
            return self._local(text[scheme.end() :], table)
        if "://" in text:
            return text, self._remote_problem(text, scheme[1] if scheme else "", table)
        if _SCHEME.match(table):
            return self._beside_remote(text, table)
        return self._local(text, table)

    def _local(self, text: str, table: str) -> tuple[str, str]:
        if _SCHEME.match(table):
            return text, "a local path in a remote table"
        if not text or "\0" in text:
            return text, NO_NAME
        if climbs(text):
            return text, ESCAPES_FOLDER
        path = Path(table).parent / text
        try:
            target = Path(os.path.realpath(Path(table).parent / container(text)))
            inside = any(target.is_relative_to(os.path.realpath(root)) for root in (*self.roots, Path(table).parent))
            if not inside:
                return text, OUTSIDE if text.startswith("/") else LEADS_OUT
            mode = target.stat().st_mode
        except FileNotFoundError:
            return str(path), ""  # reading it says so
        except (OSError, ValueError) as error:  # ELOOP: a link to itself
            return text, NOT_PLAIN if getattr(error, "errno", None) == errno.ELOOP else NO_NAME
        return str(path), "" if stat.S_ISREG(mode) else NOT_PLAIN

    def _beside_remote(self, text: str, table: str) -> tuple[str, str]:
        uri = f"{table.rpartition('/')[0]}/{text}"
        if text.startswith("/") or climbs(unquote(text)) or climbs(text):
            return text, ESCAPES_FOLDER
        return uri, NO_NAME if "\0" in text else OTHER_TABLE if isinstance(parse_address(uri), Cell) else ""

    def _remote_problem(self, text: str, scheme: str, table: str) -> str:
        if scheme.lower() not in SCHEMES:
            return f"the scheme {scheme or text.partition('://')[0]!r:.40}, which a table must not use"
        if isinstance(parse_address(text), Cell):
            return OTHER_TABLE
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return NO_NAME
        if _ODD.search(parts.netloc) or not host:
            return NO_NAME
        if parts.username is not None or parts.password is not None:
            return PASSWORD
        folder = f"{table.rpartition('/')[0]}/"
        if _SCHEME.match(table) and text.startswith(folder) and not climbs(unquote(text.removeprefix(folder))):
            return ""  # in the folder of a table that the person named
        scheme = scheme.lower()
        entry = next((entry for entry in self.allow if entry.matches(scheme, host, port)), None)
        if entry is None:
            return f"a host that was not allowed; --allow {scheme}://{parts.netloc} reads from it"
        if scheme in OBJECT_STORES or entry.private:
            return ""
        return private_problem(host, port or (443 if scheme == "https" else 80))


def climbs(path: str) -> bool:
    """Whether a path goes up, with slashes of any system."""
    return ".." in PurePosixPath(path.replace("\\", "/")).parts
