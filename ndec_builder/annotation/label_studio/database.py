"""Label Studio's database: SQLite in the workspace, or a PostgreSQL given by its address."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from ndec_builder.core.errors import NdecError, UsageError

URL_VARIABLE, PASSWORD_VARIABLE = "NDEC_DATABASE_URL", "NDEC_DATABASE_PASSWORD"
_FORM = "postgresql://USER@HOST:PORT/NAME"


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database. The password is only in the 0600 file `secrets.json`, never in a repr, log or run.json."""

    user: str
    host: str  # a name, an address, or the folder of a unix socket
    port: int
    name: str
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.name}"

    def variables(self) -> dict[str, str]:
        """Environment variables for the server's process."""
        return {
            "DJANGO_DB": "default",
            "POSTGRE_NAME": self.name,
            "POSTGRE_USER": self.user,
            "POSTGRE_PASSWORD": self.password,
            "POSTGRE_HOST": self.host,
            "POSTGRE_PORT": str(self.port),
        }

    def check_answers(self) -> None:
        """Raise NdecError if nothing listens there: Label Studio would retry for minutes and end with a traceback."""
        try:
            if self.host.startswith("/"):
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(f"{self.host}/.s.PGSQL.{self.port}")
            else:
                socket.create_connection((self.host, self.port), timeout=10).close()
        except OSError as error:
            raise NdecError(
                f"no PostgreSQL answers at {self.shown} ({error.strerror or type(error).__name__}); start it, or "
                "correct `database` in [annotate.serve] of ndec.toml"
            ) from None


def read_database(setting: str, known_password: str = "") -> Database | None:
    """The setting, else $NDEC_DATABASE_URL, as a Database; None: SQLite.

    The password comes from $NDEC_DATABASE_PASSWORD, from the address in $NDEC_DATABASE_URL, or from an earlier start.
    Raises UsageError for other kinds of addresses, and for a password in the setting, because others can read ndec.toml
    and the process list. No message shows the address: it may hold the password.
    """
    if setting and urlsplit(setting).password:
        raise UsageError(
            f"`database` holds a password, which others can read in ndec.toml or the process list; write {_FORM} "
            f"there and give the password once in ${PASSWORD_VARIABLE}: it is kept in a file that only you can read"
        )
    address = setting or os.environ.get(URL_VARIABLE, "")
    if not address:
        return None
    parts = urlsplit(address)
    name = unquote(parts.path.lstrip("/"))
    try:
        port = parts.port or 5432
    except ValueError:
        raise UsageError(
            f"the port in the database address is not a number from 1 to 65535; the address has the form {_FORM}"
        ) from None
    host = (parse_qs(parts.query).get("host") or [parts.hostname or "localhost"])[0]
    if parts.scheme not in ("postgresql", "postgres") or not name or not parts.username:
        raise UsageError(
            f"the database address has the scheme {parts.scheme!r}; expected {_FORM} (or nothing, for SQLite)"
        )
    password = os.environ.get(PASSWORD_VARIABLE, "") or unquote(parts.password or "") or known_password
    return Database(unquote(parts.username), host, port, name, password)
