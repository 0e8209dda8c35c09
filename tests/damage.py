"""Kinds of damage to a valid dataset: name → (code that must be found, what is done to the directory).

Damage to a table is followed by a new hash in manifest.json, as by somebody who edits a dataset by hand and wants it to
pass: only the content is wrong then.
"""

from __future__ import annotations

import io
import json
import shutil
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


OTHER = "0" * 64
LINKED: dict[str, tuple[str, Change]] = {  # a dataset whose images stay in the workspace
    "a byte of a table flipped": (
        "M103",
        content("data/references/test-00000-of-00001.parquet", flip(40), again=False),
    ),
    "a byte appended to the card": ("M103", content("README.md", lambda data: data + b"\n", again=False)),
    "a table cut short": ("M103", content("data/queries/test-00000-of-00001.parquet", lambda d: d[:-9], again=False)),
    "a listed size wrong": ("M103", info(files=lambda f: f | {"README.md": f["README.md"] | {"bytes": 1}})),
    "a file listed outside": ("M101", info(files=lambda files: files | {"../x": {"sha256": OTHER, "bytes": 1}})),
    "an absolute file listed": (
        "M101",
        info(files=lambda files: files | {"/etc/hosts": {"sha256": OTHER, "bytes": 1}}),
    ),
    "the attribution deleted": ("M102", drop_file("ATTRIBUTION.csv")),
    "the citation deleted": ("M102", drop_file("CITATION.cff")),
    "a table deleted": ("M102", drop_file("data/train_pairs/train-00000-of-00001.parquet")),
    "a file added": ("M104", lambda directory: (directory / "notes.txt").write_text("x") and None),
    "a parquet added": ("M104", lambda d: shutil.copy(path_of(d, "queries"), d / "data/queries/old.parquet") and None),
    "a column dropped": ("M105", drop_column),
    "a column of another type": ("M105", other_type),
    "a table that is no parquet": ("M105", content("data/queries/test-00000-of-00001.parquet", lambda data: b"PAR1")),
    "a page of a table damaged": ("M105", content("data/references/test-00000-of-00001.parquet", flip(40))),
    "a table of a newer version": ("M113", newer),
    "the truth csv edited": ("M106", text("ground_truth.csv", "mine,r3", "mine,r2")),
    "the truth csv with a byte order mark": ("M106", content("ground_truth.csv", lambda data: b"\xef\xbb\xbf" + data)),
    "the truth csv with CRLF": ("M106", content("ground_truth.csv", lambda data: data.replace(b"\n", b"\r\n"))),
    "the truth csv without a column": (
        "M106",
        content("ground_truth.csv", lambda d: d.replace(b",reference_id", b"", 1)),
    ),
    "a row of the truth csv gone": ("M106", text("ground_truth.csv", "mine,r3\n", "")),
    "a licence edited in the attribution": ("M107", text("ATTRIBUTION.csv", "CC-BY-4.0", "CC0-1.0")),
    "the attribution cut": ("M107", content("ATTRIBUTION.csv", lambda data: data[: len(data) // 2])),
    "a config renamed in the card": (
        "M108",
        text("README.md", "- config_name: references", "- config_name: originals"),
    ),
    "a count edited in the card": ("M108", text("README.md", "| references | 3 |", "| references | 4 |")),
    "a kind's count edited in the card": ("M108", text("README.md", "| hard_negative | 2 |", "| hard_negative | 9 |")),
    "another path in croissant": (
        "M109",
        text("croissant.json", '"contentUrl": "data/queries', '"contentUrl": "data/x'),
    ),
    "another hash in croissant": ("M109", text("croissant.json", '"sha256": "', '"sha256": "0')),
    "another version in croissant": ("M109", text("croissant.json", '"version": "1.0.0"', '"version": "2.0.0"')),
    "a foreign key turned in croissant": ("M109", turn_foreign_key),
    "croissant that is no JSON": ("M109", content("croissant.json", lambda data: b"{")),
    "another version in the citation": ("M110", text("CITATION.cff", 'version: "1.0.0"', 'version: "3.0.0"')),
    "a key of manifest.json missing": ("M111", info(counts=None)),
    "a file entry without a hash": ("M111", info(files=lambda files: files | {"README.md": {"bytes": 1}})),
    "the card not listed": ("M111", unlist("README.md")),
    "a table not listed": ("M111", unlist("data/queries/test-00000-of-00001.parquet")),
    "a version that is none": ("M112", info(version="1.0")),
    "an annotator left out": ("M116", info(annotators=["anna"])),
    "simulated labels called human": ("M116", info(labels_by="nobody")),
    "a wrong count": ("M201", info(counts=lambda counts: counts | {"positive_pairs": 99})),
    "a missing row": ("M201", remover("references", "image_id", "r1")),
    "another kind of hard negative": ("M201", setter("queries", "query_id", "p-hard", hard_kind="reverse_crop")),
    "a query twice": ("M202", adder("queries")),
    "two references for a query": ("M202", adder("ground_truth", reference_id="r3")),
    "a pair twice": ("M202", adder("train_pairs")),
    "an id empty": ("M203", setter("references", "image_id", "r1", image_id=None)),
    "truth of nobody": ("M204", adder("ground_truth", query_id="zzz")),
    "truth with an unknown reference": ("M205", setter("ground_truth", "query_id", "mine", reference_id="r9")),
    "a query without truth": ("M206", remover("ground_truth", "query_id", "p-hard")),
    "no positives": ("M207", every("ground_truth", lambda row: {"reference_id": None})),
    "a copy called distractor": ("M208", setter("queries", "query_id", "mine", kind="distractor")),
    "an unknown kind": ("M208", setter("queries", "query_id", "p-hard", kind="nonsense")),
    "a hard negative with a reference": ("M208", setter("ground_truth", "query_id", "p-hard", reference_id="r1")),
    "a hard negative of no kind": ("M209", setter("queries", "query_id", "p-hard", hard_kind=None)),
    "a copy with a hard kind": ("M209", setter("queries", "query_id", "mine", hard_kind="natural")),
    "an unknown hard kind": ("M209", setter("queries", "query_id", "mine", hard_kind="weird")),
    "a former missing": ("M210", remover("train_basic", "image_id", "b1")),
    "a latter missing": ("M211", remover("train_pair_images", "image_id", "t-good")),
    "a pair image that nobody uses": ("M212", adder("train_pair_images", image_id="z-idle")),
    "a latter that is a basic image": ("M213", adder("train_pair_images", image_id="b1")),
    "all pairs turned": (
        "M214",
        every("train_pairs", lambda r: {"former_id": r["latter_id"], "latter_id": r["former_id"]}),
    ),
    "two pairs swapped": ("M214", swap("train_pairs", "former_id", "pair_id")),
    "a pair in both directions": ("M215", both_directions),
    "a pair of one image": ("M216", every("train_pairs", lambda row: {"latter_id": row["former_id"]})),
    "a pair under a second id": ("M217", same_pair_again),
    "rows turned round": ("M218", table("queries", lambda rows: rows[::-1])),
    "a hash that is none": ("M219", setter("references", "image_id", "r1", sha256="abc")),
    "an image without a uri": ("M220", setter("references", "image_id", "r1", uri=None)),
    "a uri that climbs out": ("M223", setter("references", "image_id", "r1", uri="files/../../../etc/passwd")),
    "an edit that is no JSON": ("M224", setter("queries", "query_id", "copy-000000", edit="{crop")),
    "a rotation that is none": ("M226", setter("references", "image_id", "r1", rotation=45)),
    "a score above one": ("M225", every("train_pairs", lambda row: {"score": 1.5})),
    "a basis that is none": ("M225", every("train_pairs", lambda row: {"basis": "guessed"})),
    "a hard negative with a reference's bytes": (
        "M301",
        borrow("queries", "query_id", "p-hard", "sha256", "references", "image_id", "r1"),
    ),
    "a copy with another reference's bytes": (
        "M301",
        borrow("queries", "query_id", "copy-000000", "sha256", "references", "image_id", "r2"),
    ),
    "two queries of one file": (
        "M302",
        borrow("queries", "query_id", "p-hard", "sha256", "queries", "query_id", "p-whole"),
    ),
    "a leaked reference": ("M303", borrow("train_basic", "image_id", "b1", "sha256", "references", "image_id", "r1")),
    "a leaked query": (
        "M303",
        borrow("train_pair_images", "image_id", "t-good", "sha256", "queries", "query_id", "p-hard"),
    ),
    "a leaked group": ("M304", borrow("train_basic", "image_id", "b2", "group", "queries", "query_id", "p-hard")),
    "a leaked group of a pair": (
        "M304",
        borrow("train_pair_images", "image_id", "t-good", "group", "references", "image_id", "r2"),
    ),
    "a latter with a basic image's bytes": (
        "M307",
        borrow("train_pair_images", "image_id", "t-good", "sha256", "train_basic", "image_id", "b2"),
    ),
    "two references of one file": (
        "M308",
        borrow("references", "image_id", "r1", "sha256", "references", "image_id", "r2"),
    ),
    "an image file changed": (
        "M305",
        lambda d: (images_of(d) / "reference" / "r1.png").write_bytes(b"changed") and None,
    ),
    "image files gone": ("M306", lambda directory: shutil.rmtree(images_of(directory) / "query")),
    "a licence missing": ("M401", setter("references", "image_id", "r1", license="")),
    "an author missing": ("M402", setter("references", "image_id", "r1", author=None)),
}
TARRED: dict[str, tuple[str, Change]] = {  # --materialize tar
    "a byte in a shard flipped": ("M305", flip_in_shard),
    "a shard cut short": ("M309", cut_shard),
    "a shard of garbage": ("M114", lambda d: first_shard(d).write_bytes(b"no tar" * 200) and rehash(d)),
    "a shard deleted": ("M309", lambda directory: first_shard(directory).unlink()),
    "a tar member that climbs out": ("M115", climbing_member()),
    "an absolute tar member": ("M115", climbing_member(name="/tmp/evil.jpg")),
    "a link in a tar": ("M115", climbing_member(tarfile.SYMTYPE, "link")),
    "a uri out of the shards": ("M223", setter("references", "image_id", "r1", uri="/etc/passwd")),
}
FOLDED: dict[str, tuple[str, Change]] = {  # --materialize folder
    "a packed image deleted": ("M309", lambda directory: sorted((directory / "images").rglob("*.png"))[0].unlink()),
    "a packed image changed": ("M305", lambda d: sorted((d / "images").rglob("*.png"))[0].write_bytes(b"x") and None),
}
ATTRIBUTED: dict[str, tuple[str, Change]] = {  # --attribution-only
    "a place of an image slipped in": ("M221", setter("references", "image_id", "r1", uri="files/reference/r1.png")),
    "an image without any address": ("M222", setter("references", "image_id", "r1", original_url=None)),
}
