"""Ways to damage a dataset directory; which of them a test uses on what is in `damages.py`.

After a table is damaged, its new hash is written into manifest.json, as somebody would who edits a dataset by hand and
expects it to pass. Then only the content is wrong.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ndec_builder.core.schemas import MANIFEST_TABLES, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table

Change = Callable[[Path], None]
Rows = list[dict[str, Any]]


def path_of(directory: Path, name: str) -> Path:
    return directory / "data" / name / f"{MANIFEST_TABLES[name][0]}-00000-of-00001.parquet"


def rows_of(directory: Path, name: str) -> Rows:
    return pq.read_table(path_of(directory, name)).to_pylist()


def rehash(directory: Path) -> None:
    info = json.loads((directory / "manifest.json").read_text())
    for file, entry in info["files"].items():
        if (directory / file).is_file():
            entry |= {"sha256": sha256_file(directory / file), "bytes": (directory / file).stat().st_size}
    write_json(directory / "manifest.json", info)


def table(name: str, change: Callable[[Rows], Rows | None]) -> Change:
    def damage(directory: Path) -> None:
        rows = rows_of(directory, name)
        changed = change(rows)
        write_table(path_of(directory, name), table_of(MANIFEST_TABLES[name][1], rows if changed is None else changed))
        rehash(directory)

    return damage


def setter(name: str, key: str, row_id: str, **values: Any) -> Change:
    def change(rows: Rows) -> None:
        next(row for row in rows if row[key] == row_id).update(values)

    return table(name, change)


def adder(name: str, **values: Any) -> Change:
    return table(name, lambda rows: [*rows, rows[0] | values])


def remover(name: str, key: str, row_id: str) -> Change:
    return table(name, lambda rows: [row for row in rows if row[key] != row_id])


def every(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    return table(name, lambda rows: [row | change(row) for row in rows])


def swap(name: str, column: str, key: str) -> Change:
    """Exchange a column's values between two rows that differ in them."""

    def change(rows: Rows) -> None:
        first = rows[0]
        second = next(row for row in rows if row[column] != first[column] and row[key] != first[key])
        first[column], second[column] = second[column], first[column]

    return table(name, change)


def borrow(name: str, key: str, row_id: str, column: str, source: str, source_key: str, source_id: str) -> Change:
    """Give a row the hash or group of a row of another table."""

    def damage(directory: Path) -> None:
        value = next(row[column] for row in rows_of(directory, source) if row[source_key] == source_id)
        setter(name, key, row_id, **{column: value})(directory)

    return damage


def info(**changes: Any) -> Change:
    def damage(directory: Path) -> None:
        value = json.loads((directory / "manifest.json").read_text())
        for name, new in changes.items():
            value[name] = new(value[name]) if callable(new) else new
        write_json(directory / "manifest.json", value)

    return damage


def text(name: str, old: str, new: str) -> Change:
    def damage(directory: Path) -> None:
        before = (directory / name).read_bytes().decode()
        assert old in before, f"{name} lacks {old!r}"
        (directory / name).write_bytes(before.replace(old, new, 1).encode())
        rehash(directory)

    return damage


def content(name: str, change: Callable[[bytes], bytes], again: bool = True) -> Change:
    def damage(directory: Path) -> None:
        path = directory / name
        path.write_bytes(change(path.read_bytes()))
        if again:
            rehash(directory)

    return damage


def flip(position: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        place = position % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


def drop_column(directory: Path) -> None:
    path = path_of(directory, "references")
    pq.write_table(pq.read_table(path).drop_columns(["sha256"]), path)
    rehash(directory)


def other_type(directory: Path) -> None:
    path = path_of(directory, "train_pairs")
    found = pq.read_table(path)
    column = found.schema.get_field_index("score")
    pq.write_table(found.set_column(column, "score", [["high"] * len(found)]), path)
    rehash(directory)


def unstate(name: str) -> Change:
    """Take a fact out of what [card] stated."""

    def damage(directory: Path) -> None:
        value = json.loads((directory / "manifest.json").read_text())
        del value["card"][name]
        write_json(directory / "manifest.json", value)

    return damage


def turn_foreign_key(directory: Path) -> None:
    value = json.loads((directory / "croissant.json").read_text())
    fields = next(entry for entry in value["recordSet"] if entry["@id"] == "ground_truth")["field"]
    fields[1]["references"] = {"field": {"@id": "queries/query_id"}}
    write_json(directory / "croissant.json", value)
    rehash(directory)


def newer(directory: Path) -> None:
    path = path_of(directory, "queries")
    found = pq.read_table(path)
    metadata = {**found.schema.metadata, b"ndec_schema_version": b"7"}
    pq.write_table(found.replace_schema_metadata(metadata), path)
    rehash(directory)


def both_directions(directory: Path) -> None:
    """The pair turned as well, with an id that fits; its images change tables with it."""
    from ndec_builder.core.schemas import pair_id

    def change(rows: Rows) -> Rows:
        former, latter = rows[0]["former_id"], rows[0]["latter_id"]
        turned = rows[0] | {"former_id": latter, "latter_id": former, "pair_id": pair_id("train", former, latter)}
        return sorted([*rows, turned], key=lambda row: row["pair_id"])

    table("train_pairs", change)(directory)


def same_pair_again(directory: Path) -> None:
    table("train_pairs", lambda rows: [rows[0] | {"pair_id": "0" * 16}, *rows])(directory)


def images_of(directory: Path) -> Path:
    return directory.parent.parent / "files"


def first_shard(directory: Path) -> Path:
    return sorted((directory / "images").glob("*.tar"))[0]


def flip_in_shard(directory: Path) -> None:
    path = first_shard(directory)
    path.write_bytes(flip(600)(path.read_bytes()))
    rehash(directory)


def cut_shard(directory: Path) -> None:
    path = first_shard(directory)
    path.write_bytes(path.read_bytes()[:700])
    rehash(directory)


def climbing_member(kind: bytes = tarfile.REGTYPE, name: str = "../../evil.jpg") -> Change:
    def damage(directory: Path) -> None:
        with tarfile.open(first_shard(directory), "a") as tar:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO())
        rehash(directory)

    return damage


def drop_file(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


def unlist(name: str) -> Change:
    return info(files=lambda files: {file: entry for file, entry in files.items() if file != name})
