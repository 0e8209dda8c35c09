"""Label Studio's database: SQLite in the workspace, or a PostgreSQL given by its address; copies before an upgrade.

A copy is never replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ndec_builder.annotation.label_studio.environment import DATABASE, LABEL_STUDIO_VERSION
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import atomic_path, read_json, sha256_file, write_json

URL_VARIABLE, PASSWORD_VARIABLE = "NDEC_DATABASE_URL", "NDEC_DATABASE_PASSWORD"
_FORM = "postgresql://USER@HOST:PORT/NAME"
UNKNOWN = "unknown"  # the version of a database without a version file: its first start did not finish
_INSTEAD = "or start once with --without-backup if you have a copy of your own"


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


def version_file(data: Path) -> Path:
    """The Label Studio version that last started on this data folder."""
    return data / "version.json"


def record_version(data: Path) -> None:
    write_json(version_file(data), {"label_studio": LABEL_STUDIO_VERSION})


def prepare_upgrade(
    data: Path, database: Database | None, python: Path, *, without_backup: bool = False
) -> Path | None:
    """Copy the database if this start may migrate it; returns the copy, or None if none is needed.

    None is needed when the last start was by the same version, or when the database is empty. An upgrade that failed
    leaves the version file as it was, so the next start copies again, under the next number. `python` is the one of the
    server's environment. Raises NdecError for a database of a newer version, and when no copy can be made, unless
    `without_backup`.
    """
    found = version_file(data)
    recorded: Any = read_json(found) if found.is_file() else {}
    made_by = str(recorded.get("label_studio", UNKNOWN)) if isinstance(recorded, dict) else UNKNOWN
    if made_by == LABEL_STUDIO_VERSION:
        return None
    if _numbers(made_by) > _numbers(LABEL_STUDIO_VERSION):
        raise NdecError(
            f"{data} was made by Label Studio {made_by}, and this ndec uses {LABEL_STUDIO_VERSION}, which "
            "cannot read it; use the ndec that made it, or move the folder away: `ndec annotate push` makes the "
            "projects again"
        )
    store = data / DATABASE
    if database is None and not (store.is_file() and store.stat().st_size):
        return None
    if database is not None and made_by == UNKNOWN and _is_empty(database, python):
        return None
    if without_backup:
        say(f"no copy of the database of Label Studio {made_by} is made (--without-backup)")
        return None
    stem, suffix = f"label_studio-{re.sub('[^0-9A-Za-z.]', '-', made_by)}", ".pgdump" if database else ".sqlite3"
    number = max(_generations(data, stem, suffix), default=0) + 1
    copy = data / f"{stem}-{number}{suffix}"
    with atomic_path(copy, mode=0o600) as temporary:
        _copy_sqlite(store, temporary) if database is None else _dump_postgres(database, temporary)
        same = database is None and number > 1 and _same_bytes(temporary, data / f"{stem}-{number - 1}{suffix}")
    if same:  # an earlier start failed before it changed anything
        copy.unlink()
        copy = data / f"{stem}-{number - 1}{suffix}"
    say(f"Label Studio {LABEL_STUDIO_VERSION} opens a database of version {made_by}; a copy of it is kept in {copy}")
    return copy


def _generations(data: Path, stem: str, suffix: str) -> list[int]:
    name = re.compile(re.escape(stem) + r"-(\d+)" + re.escape(suffix))
    return [int(found[1]) for path in data.iterdir() if (found := name.fullmatch(path.name))]


def _same_bytes(new: Path, old: Path) -> bool:
    return old.is_file() and old.stat().st_size == new.stat().st_size and sha256_file(old) == sha256_file(new)


def _copy_sqlite(store: Path, copy: Path) -> None:
    """SQLite's own backup: it includes what is still in the write-ahead log."""
    try:
        with contextlib.closing(sqlite3.connect(store)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise NdecError(
            f"{store} cannot be copied before the upgrade ({error}); make room or restore that file, {_INSTEAD}"
        ) from None


def _is_empty(database: Database, python: Path) -> bool:
    """Whether a PostgreSQL database has no table; False if that cannot be found out."""
    code = (
        "import os, psycopg\n"
        "given = {name: os.environ['POSTGRE_' + name.upper()] for name in ('user', 'password', 'host', 'port')}\n"
        "cursor = psycopg.connect(dbname=os.environ['POSTGRE_NAME'], **given).cursor()\n"
        "cursor.execute(\"SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'\")\n"
        "print(cursor.fetchone()[0])"
    )
    try:
        done = subprocess.run(
            [str(python), "-c", code], env={**os.environ, **database.variables()}, capture_output=True, text=True
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == "0"


def _dump_postgres(database: Database, copy: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise NdecError(
            f"Label Studio may change {database.shown} at this start, and no copy can be made: `pg_dump` is not "
            f"installed here; install it (Debian: postgresql-client), {_INSTEAD}"
        )
    command = [program, "--format=custom", "--no-password", f"--file={copy}", f"--host={database.host}"]
    command += [f"--port={database.port}", f"--username={database.user}", database.name]
    done = subprocess.run(
        command, env={**os.environ, "PGPASSWORD": database.password}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        reason = done.stderr.strip().replace("\n", " / ")
        raise NdecError(
            f"`pg_dump` could not copy {database.shown} (exit code {done.returncode}): {reason}; fix that, {_INSTEAD}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
