"""Append-only tables with a hash chain: ledger.json names every generation of labels, skips, incidents and set_aside.

An entry: generation · rows · digest, sha256 of the previous digest and the rows added since · columns, those that the
digest covers · file, sha256 of the parquet file · at. The previous generation of a table stays next to it as
NAME.previous.parquet. A workspace of an older version has no ledger; its first write starts one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.records.table_store import read_groups, write_tables
from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.rows import as_rows
from ndec_builder.core.storage import read_json, read_table, sha256_file, write_bytes, write_json, write_table

APPEND_ONLY = ("labels", "skips", "incidents", "set_aside")
LEDGER_FILE = "ledger.json"
_ROWS_AT_ONCE = 10_000

LedgerEntry = dict[str, Any]


def ledger(directory: Path) -> dict[str, list[LedgerEntry]]:
    """The chain of each append-only table of a split; empty for a workspace of an older version."""
    path = directory / LEDGER_FILE
    found: dict[str, list[LedgerEntry]] = read_json(path) if path.is_file() else {}
    return found


def last_entry(directory: Path, name: str) -> LedgerEntry | None:
    """The newest generation of a table, or None if it has no chain."""
    chain = ledger(directory).get(name, [])
    return chain[-1] if chain else None


def append(directory: Path, name: str, table: pa.Table) -> Path:
    """Write the next generation of a table: the rows of the previous one, then new ones. Without new rows: nothing.

    The order is: keep the previous file, rename the new one to its place, add the entry. A process that dies before the
    entry leaves more rows than the chain names, and the next write includes them.
    """
    return append_parts(directory, name, table.schema, [table], table.num_rows)


def append_parts(directory: Path, name: str, schema: pa.Schema, parts: Iterable[pa.Table], count: int) -> Path:
    """`append` for a table of `count` rows in parts of this schema; one row group at a time is in memory."""
    path = directory / f"{name}.parquet"
    known = ledger(directory)
    chain = known.get(name, [])
    rows = chain[-1]["rows"] if chain else 0
    if count < rows:
        raise NdecError(f"{path} would lose rows: {rows} are recorded, {count} would be written")
    if path.is_file() and count == rows and chain:
        return path
    if path.is_file():
        _keep_previous(path)
    write_tables(path, schema, parts)
    _add_entry(directory, known, name, schema.names, count, rows)
    return path


def rewrite(directory: Path, name: str, table: pa.Table, why: str) -> None:
    """Replace a table with other values in the same rows, for `ndec annotate forget`; the chain starts again."""
    known = ledger(directory)
    path = directory / f"{name}.parquet"
    write_table(path, table)
    previous_file(path).unlink(missing_ok=True)
    if chain := known.get(name):
        known[name] = []
        more = {"generation": chain[-1]["generation"] + 1, "rewritten": why}
        _add_entry(directory, known, name, table.column_names, table.num_rows, 0, **more)


def previous_file(path: Path) -> Path:
    """Where the previous generation of a table is kept."""
    return path.with_name(f"{path.stem}.previous.parquet")


def check_present(directory: Path, name: str) -> None:
    """Raise NdecError if a table is missing, lost rows or has other rows than its chain says.

    If the file is the one that was written, this reads no rows.
    """
    path, entry = directory / f"{name}.parquet", last_entry(directory, name)
    if entry is None or (path.is_file() and sha256_file(path) == entry["file"]):
        return
    if problem := chain_problem(directory, name):
        raise NdecError(problem)


def chain_problem(directory: Path, name: str) -> str:
    """What is wrong with a table by its chain, and what to do; empty if every recorded row is there unchanged."""
    path, chain = directory / f"{name}.parquet", ledger(directory).get(name, [])
    if not chain:
        return ""
    if not path.is_file():
        return (
            f"{path} is missing, but {LEDGER_FILE} records {number_of(chain[-1]['rows'], 'row')}; "
            f"{_advice(path, chain)}"
        )
    table = read_table(path)
    if table.num_rows < chain[-1]["rows"]:
        return (
            f"{path} has {number_of(table.num_rows, 'row')}, but {LEDGER_FILE} records {chain[-1]['rows']:,}; "
            f"{_advice(path, chain)}"
        )
    digest, start = "", 0
    for entry in chain:
        digest = _digest(digest, [table.slice(start, entry["rows"] - start)], entry["columns"])
        if digest != entry["digest"]:
            return (
                f"{path} was changed: rows {start} to {entry['rows'] - 1} are not those that were written at "
                f"{entry['at']}; {_advice(path, chain)}"
            )
        start = entry["rows"]
    return ""


def _advice(path: Path, chain: Sequence[LedgerEntry]) -> str:
    previous = previous_file(path)
    or_previous = f", or copy {previous.name}, the one before, to its place" if previous.is_file() else ""
    return (
        f"restore generation {chain[-1]['generation']} of it from a backup{or_previous}. To go on with fewer rows, "
        f"delete {LEDGER_FILE} and run `ndec annotate pull --all`, which fetches everything that Label Studio still has"
    )


def _add_entry(
    directory: Path,
    known: dict[str, list[LedgerEntry]],
    name: str,
    columns: Sequence[str],
    count: int,
    start: int,
    **more: Any,
) -> None:
    """Record the file as it is on disk: `count` rows, those from `start` on are new."""
    path = directory / f"{name}.parquet"
    chain = known.setdefault(name, [])
    before: LedgerEntry = chain[-1] if chain else {"generation": 0, "digest": ""}
    entry = {
        "generation": before["generation"] + 1,
        "rows": count,
        "columns": list(columns),
        "digest": _digest(before["digest"], read_groups(path, start=start), columns),
        "file": sha256_file(path),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    chain.append(entry | more)
    write_json(directory / LEDGER_FILE, known)


def _digest(before: str, parts: Iterable[pa.Table], columns: Sequence[str]) -> str:
    digest = hashlib.sha256(before.encode())
    for part in parts:
        if missing := set(columns) - set(part.column_names):
            return f"without the columns {sorted(missing)}"
        rows = part.select(list(columns))
        for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
            for row in as_rows(rows.slice(start, _ROWS_AT_ONCE)):
                digest.update(json.dumps(list(row.values()), default=str).encode() + b"\n")
    return digest.hexdigest()


def _keep_previous(path: Path) -> None:
    """Give the file a second name; copy it where the file system has no hard links. Raises WriteError."""
    previous = previous_file(path)
    if previous.is_file() and previous.samefile(path):  # kept by a write that was killed before its rename
        return
    partial = previous.with_name(f".{previous.stem}.partial.parquet")
    try:
        partial.unlink(missing_ok=True)
        os.link(path, partial)
        partial.replace(previous)
    except OSError:
        write_bytes(previous, path.read_bytes())
