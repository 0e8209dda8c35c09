"""What must hold between the files of a dataset: hashes, csv files, card, croissant.json, and the images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import MANIFEST_TABLES
from ndec_builder.core.storage import sha256_file
from ndec_builder.manifests.card import MEANING
from ndec_builder.manifests.checks import Finding, Tables, found
from ndec_builder.manifests.croissant import FORMATS
from ndec_builder.manifests.csvs import IMAGE_TABLES, attribution_csv, ground_truth_csv
from ndec_builder.manifests.read import Manifest

UNLISTED = ("manifest.json", "run.json")  # a file cannot hold its own hash; run.json is a log
AGAIN = "copy the dataset again from where it is whole, or export it again"


def check_files(manifest: Manifest) -> Iterator[Finding]:
    """Every listed file is there with its sha256, and nothing else is."""
    listed: dict[str, dict[str, Any]] = manifest.info.get("files", {})
    outside = [name for name in listed if Path(name).is_absolute() or ".." in Path(name).parts]
    yield from found("M101", outside, "manifest.json lists files outside the dataset", AGAIN)
    paths = {name: manifest.directory / name for name in listed if name not in outside}
    yield from found("M102", [name for name, path in paths.items() if not path.is_file()], "files are missing", AGAIN)
    wrong = [name for name, path in paths.items() if path.is_file() and sha256_file(path) != listed[name].get("sha256")]
    yield from found("M103", wrong, "files have another sha256 than manifest.json says", AGAIN)
    there = {
        path.relative_to(manifest.directory).as_posix() for path in manifest.directory.rglob("*") if path.is_file()
    }
    remedy = "move them elsewhere: a dataset is what its manifest.json lists"
    yield from found(
        "M104", list(there - set(listed) - set(UNLISTED)), "files that manifest.json does not list", remedy
    )


def read_tables(manifest: Manifest) -> tuple[Tables, list[Finding]]:
    """Read all tables; one that cannot be read as its schema says becomes a finding (M105)."""
    tables, findings = {}, []
    for name in MANIFEST_TABLES:
        try:
            tables[name] = manifest.table(name)
        except (NdecError, ValueError) as error:  # pyarrow's errors are ValueErrors: a column of another type
            findings.append(Finding("M105", "error", 0, f"the table {name} cannot be read: {error}", AGAIN))
    return tables, findings


def check_descriptions(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """The csv files, the card and croissant.json say the same as the tables and manifest.json."""
    checks = {
        "ground_truth.csv": ("M106", lambda text: text == ground_truth_csv(tables["ground_truth"])),
        "ATTRIBUTION.csv": ("M107", lambda text: text == attribution_csv(tables)),
        "README.md": ("M108", lambda text: all(line in text.splitlines() for line in _card_lines(tables))),
        "croissant.json": ("M109", lambda text: _croissant_fits(text, manifest)),
    }
    for name, (code, fits) in checks.items():
        path = manifest.directory / name
        if path.is_file() and not fits(path.read_bytes().decode("utf-8", "replace")):
            yield Finding(
                code, "error", 0, f"{name} does not say what the tables and manifest.json say", "export again"
            )


def _card_lines(tables: Tables) -> Iterator[str]:
    """Lines that any card must have: the configs that `datasets` reads, and the row counts."""
    for name, (split, _) in MANIFEST_TABLES.items():
        if tables[name].num_rows:
            yield from (f"- config_name: {name}", f"    path: data/{name}/{split}-*.parquet")
        yield f"| {name} | {tables[name].num_rows:,} | {MEANING[name]} |"


def _croissant_fits(text: str, manifest: Manifest) -> bool:
    """Whether croissant.json has each data and csv file with its sha256, and each table with its columns."""
    try:
        value = json.loads(text)
        files = {entry["contentUrl"]: entry["sha256"] for entry in value["distribution"]}
        columns = {entry["@id"]: [field["name"] for field in entry["field"]] for entry in value["recordSet"]}
    except (ValueError, KeyError, TypeError):
        return False
    listed = manifest.info.get("files", {})
    described = {name: listed[name].get("sha256") for name in listed if Path(name).suffix in FORMATS}
    return files == described and columns == {name: schema.names for name, (_, schema) in MANIFEST_TABLES.items()}


def check_images(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """The sha256 of every image file that is on this machine; files elsewhere are counted, not fetched."""
    rows = {row["uri"]: row["sha256"] for name in IMAGE_TABLES for row in tables[name].to_pylist()}
    local = {uri: Path(manifest.resolve(uri)) for uri in sorted(rows) if "://" not in uri}
    there = [uri for uri, path in local.items() if path.is_file()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = dict(zip(there, pool.map(lambda uri: sha256_file(local[uri]), there), strict=True))
    wrong = [uri for uri in there if hashes[uri] != rows[uri]]
    remedy = "the picture was changed after it was ingested: restore it, or ingest and annotate again"
    yield from found("M305", wrong, "image files have another sha256 than the tables say", remedy)
    gone = [uri for uri in local if uri not in hashes]
    remedy = "put the images where images_root of manifest.json points, or fetch them from their original_url"
    yield from found("M306", gone, "image files are not there", remedy, "warning")
