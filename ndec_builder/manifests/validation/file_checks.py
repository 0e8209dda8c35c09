"""Checks between the files of a dataset: hashes, csv files, card, citation, Croissant, manifest.json."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import MANIFEST_TABLES
from ndec_builder.core.storage import refuse_newer, sha256_file
from ndec_builder.manifests.csv_tables import attribution_csv, ground_truth_csv, same_content
from ndec_builder.manifests.image_paths import escapes_root
from ndec_builder.manifests.pair_folders import FOLDERS, read_folders
from ndec_builder.manifests.read import Manifest
from ndec_builder.manifests.settings import SEMANTIC
from ndec_builder.manifests.validation.findings import Finding, Tables, flag_rows
from ndec_builder.manifests.writing.croissant import ENCODING_FORMATS, FOREIGN_KEYS
from ndec_builder.manifests.writing.lineage import annotator_names, earlier_labels_by, labels_by
from ndec_builder.manifests.writing.responsible import STATED, missing, stated_facts

LOGS = ("run.json", "fetch.csv")  # not part of the dataset
UNLISTED = ("manifest.json", *LOGS)  # a file cannot hold its own hash
NEEDED = ("README.md", "croissant.json", "ground_truth.csv", "ATTRIBUTION.csv")
_TYPES: dict[str, type] = {
    "name": str, "version": str, "schema_version": str, "ndec_version": str, "description": str, "images_root": str,
    "settings": dict, "counts": dict, "dropped": dict, "lineage": dict, "annotators": list, "labels_by": str,
    "files": dict,
}  # fmt: skip


def check_info(info: dict[str, Any]) -> Iterator[Finding]:
    """manifest.json alone: its keys, the version, the files that it must list, who labelled."""
    wrong = [name for name, kind in _TYPES.items() if not isinstance(info.get(name), kind)]
    files = info.get("files") if isinstance(info.get("files"), dict) else {}
    unlisted = [f"files: {name}" for name in NEEDED if name not in (files or {})]
    tables = {name.split("/")[1] for name in files or {} if name.startswith("data/") and name.count("/") == 2}
    unlisted += [f"files: data/{name}" for name in MANIFEST_TABLES if name not in tables]
    broken = [f"files: {name}" for name, entry in (files or {}).items() if not _is_entry(entry)]
    yield from flag_rows("M111", [*wrong, *unlisted, *broken])
    if isinstance(info.get("version"), str) and not re.fullmatch(SEMANTIC, info["version"]):
        yield from flag_rows("M112", [info["version"]])
    if not {"lineage", "annotators", "labels_by"} & set(wrong):
        try:
            names = annotator_names(info["lineage"])
            said = [] if names == info["annotators"] else ["annotators"]
            possible = [who(names, info["lineage"]) for who in (labels_by, earlier_labels_by)]
            said += [] if info["labels_by"] in possible else ["labels_by"]
        except (KeyError, TypeError):
            said = ["lineage"]
        yield from flag_rows("M116", said)


def check_listed_files(manifest: Manifest) -> Iterator[Finding]:
    """Every listed file exists with its sha256 and size, and there are no other files."""
    listed: dict[str, Any] = manifest.info["files"]
    outside = [name for name in listed if escapes_root(name)]
    yield from flag_rows("M101", outside)
    paths = {name: manifest.directory / name for name in listed if name not in outside}
    yield from flag_rows("M102", [name for name, path in paths.items() if not path.is_file()])
    yield from flag_rows(
        "M103", [name for name, path in paths.items() if path.is_file() and not _fits(path, listed[name])]
    )
    packed = manifest.form in ("folder", "attribution_only")  # the tables list their images
    there = (path.relative_to(manifest.directory) for path in manifest.directory.rglob("*") if path.is_file())
    names = {path.as_posix() for path in there if not (packed and path.parts[0] == "images")}
    yield from flag_rows("M104", names - set(listed) - set(UNLISTED))


def read_tables(manifest: Manifest) -> tuple[Tables, list[Finding]]:
    """Read all tables as stored; an unreadable one becomes a finding."""
    tables, findings = {}, []
    for name in MANIFEST_TABLES:
        try:
            for path in sorted((manifest.directory / "data" / name).glob("*.parquet")):
                refuse_newer(pq.read_schema(path), path)
        except NdecError as error:
            findings.append(Finding("M113", 0, str(error)))
            continue
        except (OSError, ValueError):  # not parquet at all: reported below
            pass
        try:
            tables[name] = manifest.stored(name)
        except (NdecError, ValueError, OSError) as error:  # pyarrow's errors are ValueErrors: a column of another type
            findings.append(Finding("M105", 0, f"{name}: {error}"))
    return tables, findings


def check_descriptions(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """The csv files, the card, the citation and croissant.json agree with the tables and manifest.json."""
    truth, attribution = (manifest.directory / name for name in ("ground_truth.csv", "ATTRIBUTION.csv"))
    if truth.is_file() and not same_content(truth, ground_truth_csv(tables["ground_truth"])):
        yield Finding("M106", 0, csv_trouble(truth, ["query_id", "reference_id"]))
    if attribution.is_file() and not same_content(attribution, attribution_csv(tables)):
        yield Finding("M107", 0, csv_trouble(attribution, ["table", "image_id"]))
    yield from _check_folders(manifest, tables)
    checks: dict[str, tuple[str, Callable[[str], Iterable[str]]]] = {
        "README.md": ("M108", lambda text: _missing(text, _card_lines(manifest, tables))),
        "croissant.json": ("M109", lambda text: _croissant_trouble(text, manifest)),
        "CITATION.cff": ("M110", lambda text: _missing(text, _citation_lines(manifest))),
    }
    for name, (code, trouble) in checks.items():
        path = manifest.directory / name
        if path.is_file() and (wrong := list(trouble(path.read_bytes().decode("utf-8", "replace")))):
            yield Finding(code, 0, wrong[0])
    yield from flag_rows("M403", missing(manifest.info))


def _check_folders(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    try:
        folders = read_folders(manifest.directory / FOLDERS)
    except NdecError as error:
        yield Finding("M117", 0, str(error))
        return
    unknown = folders.keys() - set(tables["train_pairs"]["pair_id"].to_pylist())
    twice = {name for name, times in Counter(folders.values()).items() if times > 1}
    yield from flag_rows("M117", [*unknown, *(f"folder {name}" for name in twice)])


def csv_trouble(path: Path, columns: list[str]) -> str:
    """How a csv differs from the one that was written, judged by its first lines."""
    with path.open("rb") as file:
        head = file.read(65_536)
    if head.startswith(b"\xef\xbb\xbf"):
        return "it starts with a byte order mark: a spreadsheet saved it"
    if b"\r\n" in head:
        return "its lines end in CRLF: a spreadsheet or a mail program changed it"
    first = next(csv.reader(io.StringIO(head.decode("utf-8", "replace"))), [])
    if lacking := [name for name in columns if name not in first]:
        return f"it lacks the columns {', '.join(lacking)}"
    return "different rows or values"


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)


def _fits(path: Path, entry: dict[str, Any]) -> bool:
    return path.stat().st_size == entry["bytes"] and sha256_file(path) == entry["sha256"]


def _missing(text: str, starts: Iterable[str]) -> Iterator[str]:
    lines = text.splitlines()
    for start in starts:
        if not any(line.startswith(start) for line in lines):
            yield f"no line starts with {start!r}"


def _card_lines(manifest: Manifest, tables: Tables) -> Iterator[str]:
    """Starts of lines that every card must have: the configs that `datasets` reads, row counts, kinds, the warning."""
    for name, (split, _) in MANIFEST_TABLES.items():
        if tables[name].num_rows:
            yield from (f"- config_name: {name}", f"    path: data/{name}/{split}-*.parquet")
        yield f"| {name} | {tables[name].num_rows:,} |"
    queries = manifest.info["counts"].get("queries")
    for kind, count in (queries if isinstance(queries, dict) else {}).items():
        yield f"| {kind} | {count:,} |"
    if "simulated" in manifest.info["labels_by"]:
        yield f"> **Labels by: {manifest.info['labels_by']}.**"


def _citation_lines(manifest: Manifest) -> Iterator[str]:
    yield from ("cff-version: 1.2.0", "type: dataset", f"version: {json.dumps(manifest.info['version'])}")
    yield f"title: {json.dumps(manifest.info['name'], ensure_ascii=False)}"


def _croissant_trouble(text: str, manifest: Manifest) -> Iterator[str]:
    """Differences in croissant.json: name, version, licences, each file with its sha256, columns, foreign keys."""
    info = manifest.info
    try:
        value = json.loads(text)
        files = {entry["contentUrl"]: entry["sha256"] for entry in value["distribution"]}
        fields = {entry["@id"]: {field["name"]: field for field in entry["field"]} for entry in value["recordSet"]}
        keys = {
            (table, name): field["references"]["field"]["@id"]
            for table, columns in fields.items()
            for name, field in columns.items()
            if "references" in field
        }
        said = {name: value[name] for name in ("name", "version", "license")}
        facts = {name: entry for name, entry in value.items() if name in STATED or name.startswith(("rai:", "prov:"))}
    except (ValueError, KeyError, TypeError) as error:
        yield f"it cannot be read: {error!r}"
        return
    listed = {name: entry["sha256"] for name, entry in info["files"].items() if Path(name).suffix in ENCODING_FORMATS}
    columns = {name: schema.names for name, (_, schema) in MANIFEST_TABLES.items()}
    rows = info["counts"].get("rows", {})
    described = {name for name in columns if rows.get(name)} | set(fields)  # version 0.1.0 described empty tables too
    columns = {name: names for name, names in columns.items() if name in described}
    expected_keys = {key: target for key, target in FOREIGN_KEYS.items() if key[0] in described}
    wanted = {"name": info["name"], "version": info["version"], "license": list(info["counts"].get("licenses", {}))}
    comparisons = (
        ("files or hashes", files == listed),
        ("columns", {name: list(entry) for name, entry in fields.items()} == columns),
        ("foreign keys", keys == expected_keys),
        ("name, version or licences", said == wanted),
        ("facts of [card] or of the lineage", facts == stated_facts(info) or "card" not in info),
    )
    yield from (f"different {what}" for what, same in comparisons if not same)
