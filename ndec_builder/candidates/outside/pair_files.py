"""Read pairs of images out of the files of other tools.

Read are csv, parquet and JSON lines with two columns of ids or paths, fastdup's `similarity.csv`, JSON that maps each
file to its matches, as difPy and imagededup write it, and the JSON of czkawka's similar images.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_table

PAIR_COLUMNS = (  # headers of the two columns, best first
    ("query_id", "reference_id"), ("query", "reference"), ("filename_from", "filename_to"), ("from", "to"),
    ("image_1", "image_2"), ("image1", "image2"), ("left", "right"), ("query", "match"), ("image", "match"),
    ("source", "target"), ("a", "b"),
)  # fmt: skip
# headers that say which of the two is the pool image
DIRECTED_COLUMNS = (("query_id", "reference_id"), ("query", "reference"), ("query", "match"))
SCORE_COLUMNS = ("score", "similarity", "distance")
NO_LABEL = (
    "NA",
    "N/A",
    "NaN",
    "nan",
    "null",
    "NULL",
)  # cells of a column of labels without one, as pandas and R write it
_UNREADABLE = (ValueError, RecursionError, pa.ArrowException)  # ValueError: also json's own
_FASTDUP_NAMES = "atrain_features.dat.csv"  # fastdup numbers the images; this file next to it has their names


@dataclass(frozen=True)
class NamedPair:
    """Two ids or paths as the file has them; an empty cell is an empty text.

    score: of the tool; None where it has none or it is no number · label: the word in the column of labels, if any ·
    directed: the columns say that the first is the query, a pool image.
    """

    first: str
    second: str
    score: float | None = None
    label: str | None = None
    directed: bool = False


def read_pair_file(path: Path, labels: str = "") -> list[NamedPair]:
    """The pairs in the order of the file. `labels`: column with what people decided.

    Raises UsageError when the file is missing or none of the kinds above, or has no such column.
    """
    if not path.is_file():
        raise UsageError(f"the file of pairs {path} does not exist")
    try:
        return list(_pairs_of(path, path.suffix.lower(), labels))
    except _UNREADABLE as error:
        raise UsageError(f"{path} cannot be read ({str(error).splitlines()[0]}); give csv, parquet or json") from None


def _pairs_of(path: Path, kind: str, labels: str) -> Iterable[NamedPair]:
    if kind == ".json":
        if labels:
            raise UsageError(f"{path} has no columns, so none of labels; save the pairs as csv, parquet or JSON lines")
        content = json.loads(path.read_text("utf-8"))
        return _of_groups(content, path) if isinstance(content, list) else _of_mapping(content, path)
    if kind in (".jsonl", ".ndjson"):
        return _of_table(_of_lines(path), path, labels)
    table = read_table(path) if kind == ".parquet" else pa.csv.read_csv(path, convert_options=_all_text(path))
    return _of_table(table, path, labels)


def _of_lines(path: Path) -> pa.Table:
    """A log with one JSON object in each line. Raises ValueError naming the line that is none."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is {line[:40]!r}, not an object")
        rows.append({name: str(value) for name, value in row.items() if value is not None})
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def _all_text(path: Path) -> pa.csv.ConvertOptions:
    """Ids like 007 must not become numbers, and an id like NA must not become null."""
    with pa.csv.open_csv(path) as reader:
        names = reader.schema.names
    types = dict.fromkeys(names, pa.string())
    return pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])


def _of_table(table: pa.Table, path: Path, labels: str) -> list[NamedPair]:
    names = next((pair for pair in PAIR_COLUMNS if set(pair) <= set(table.column_names)), None)
    if names is None:
        known = ", ".join("/".join(pair) for pair in PAIR_COLUMNS)
        raise UsageError(
            f"{path} has the columns {', '.join(table.column_names)}; expected two with ids or paths, named {known}"
        )
    if labels and labels not in table.column_names:
        raise UsageError(f"{path} has no column {labels!r} of labels; its columns are {', '.join(table.column_names)}")
    first, second = (table[name].to_pylist() for name in names)
    words = table[labels].to_pylist() if labels else [None] * len(first)
    score = next((name for name in SCORE_COLUMNS if name in table.column_names), None)
    scores = table[score].to_pylist() if score else [None] * len(first)
    numbered = path.with_name(_FASTDUP_NAMES)
    if names == ("from", "to") and numbered.is_file():
        of = _fastdup_names(numbered)
        first, second = ([of.get(str(value), str(value)) for value in column] for column in (first, second))
    rows = zip(*(map(_text, column) for column in (first, second)), scores, map(_text, words), strict=True)
    directed = names in DIRECTED_COLUMNS
    return [
        NamedPair(a, b, _number(value), None if word in ("", *NO_LABEL) else word, directed)
        for a, b, value, word in rows
    ]


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _fastdup_names(path: Path) -> dict[str, str]:
    try:
        table = pa.csv.read_csv(path, convert_options=_all_text(path))
    except _UNREADABLE as error:
        raise UsageError(
            f"{path}, which names the images of fastdup's pairs, cannot be read ({str(error).splitlines()[0]}); copy "
            "it again, or remove it if the pairs have names"
        ) from None
    if {"index", "filename"} <= set(table.column_names):
        return dict(zip(table["index"].to_pylist(), table["filename"].to_pylist(), strict=True))
    return {}


def _of_groups(content: list[Any], path: Path) -> Iterator[NamedPair]:
    """czkawka's groups of similar images: [[image, …], …], with reference folders [[image, [image, …]], …].

    Read from its source (commit 2f20e2f, `similar_images`), not from a file: there is no package of the program. Every
    two images of a group are a pair. `difference` is a distance to the first image of the group, so it is no score.
    """
    for group in content:
        images = group if isinstance(group, list) else [None]
        if len(images) == 2 and isinstance(images[1], list):
            images = [images[0], *images[1]]
        names = [str(image["path"]) for image in images if isinstance(image, dict) and image.get("path")]
        if len(names) < len(images):
            raise UsageError(f"{path} is json, but neither czkawka's groups of images nor {{file: [matches]}}")
        yield from (NamedPair(first, second) for first, second in itertools.combinations(names, 2))


def _of_mapping(content: Any, path: Path) -> Iterator[NamedPair]:
    """{file: [match, …]} or {file: [[match, score], …]}."""
    if not isinstance(content, Mapping) or not all(isinstance(found, list) for found in content.values()):
        raise UsageError(f"{path} is json, but not {{file: [matches]}} as difPy and imagededup write it")
    for name, found in content.items():
        for match in found:
            if isinstance(match, str):
                yield NamedPair(name, match)
            elif isinstance(match, list) and match and isinstance(match[0], str):
                yield NamedPair(name, match[0], _number(match[1]) if len(match) > 1 else None)
            else:
                raise UsageError(f"{path}: {match!r} of {name!r} is neither a file name nor [file name, score]")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number
