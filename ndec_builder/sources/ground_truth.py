"""Ground truth of DISC21 form: csv `query_id,reference_id` with or without header, or json.

An empty reference in the csv = no match. The json is {query: [reference, …]}; an empty list = no match.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.pictures.formats import without_picture_ending

if TYPE_CHECKING:
    import pyarrow as pa

HEADER = ("query_id", "reference_id")
Match = tuple[str, str | None]


def read_ground_truth(path: Path, known: Collection[str] = ()) -> list[Match]:
    """Return the rows in file order; an empty reference is None; `.json` is json.

    Endings of images (.jpg, .png …) are stripped, except from the `known` ids.

    Raises UsageError when the file is missing or not text, NdecError with line number and value for a row that is
    repeated, has no query or not two columns, and for a query listed both with and without a match.
    """
    if not path.is_file():
        raise UsageError(f"the ground truth {path} is not a file; give a csv with the columns query_id,reference_id")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"the ground truth {path} is not csv: it is not UTF-8 text; export it as plain csv") from None
    if path.suffix.lower() == ".json":
        return _read_json(path, text, known)
    rows: list[Match] = []
    first_line: dict[Match, int] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            line = reader.line_num
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                if len(cells) < 2:
                    continue  # a blank line
            elif not rows and tuple(cell.lower() for cell in cells) == HEADER:
                continue
            row = _row(path, line, cells, known)
            if row in first_line:
                raise NdecError(
                    f"{path}, line {line}: the row {','.join(cells)!r} was already in line {first_line[row]}; "
                    "each (query, reference) pair may appear only once: remove one of the two"
                )
            first_line[row] = line
            rows.append(row)
    except csv.Error as error:
        raise NdecError(f"{path}, line {reader.line_num}: not csv ({error}); fix the quotes in that line") from None
    if not rows:
        raise NdecError(f"the ground truth {path} has no rows; it needs lines of the form query_id,reference_id")
    _no_contradiction(path, rows, first_line)
    return rows


def _read_json(path: Path, text: str, known: Collection[str]) -> list[Match]:
    """Rows of the json form, in its order."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({name for name, _ in pairs}) < len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise NdecError(f"{path} names the query {twice!r} twice; put all its references into one list")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise NdecError(f"the ground truth {path} is not JSON ({error}); fix the file") from None
    if not isinstance(value, dict):
        raise NdecError(
            f"the ground truth {path} is a {type(value).__name__}; expected an object {{query: [reference, …]}}"
        )
    rows: list[Match] = []
    for query, references in value.items():
        if not isinstance(references, list) or not all(isinstance(name, str) and name for name in references):
            raise NdecError(f"{path}: {query!r} has {references!r}; expected a list of references, empty for no match")
        if len(set(references)) < len(references):
            raise NdecError(f"{path}: {query!r} names a reference twice ({references}); remove one of the two")
        image = _strip_ending(query, known)
        rows += [(image, _strip_ending(name, known)) for name in references] or [(image, None)]
    if not rows:
        raise NdecError(f"the ground truth {path} has no rows; it needs an object {{query: [reference, …]}}")
    return rows


def match_ids(
    rows: Sequence[Match],
    query_ids: Iterable[str],
    reference_ids: Iterable[str] | None,
    where: str = "the ground truth",
) -> list[Match]:
    """Return the rows with the ids of the images: `a` stands for the image `a.png` when only one id is like that.

    where: what the rows were read from, for the messages.
    Raises NdecError for a name that fits several ids, and for two names of one query, or of one reference of a query:
    these rows would be a repetition or a contradiction. Names that fit none are left to `check_ids`.
    """
    queries, references = _by_stem(query_ids), _by_stem(reference_ids or ())
    found = [
        (_find(query, queries, where), reference and _find(reference, references, where)) for query, reference in rows
    ]
    names: dict[str | Match, str | None] = {}
    for row, match in zip(rows, found, strict=True):
        keys: tuple[tuple[str | Match, str | None], ...] = (match[0], row[0]), (match, row[1])
        for side, (key, name) in enumerate(keys):
            if (before := names.setdefault(key, name)) != name:
                raise NdecError(
                    f"{where} names the image {match[side]!r} twice, as {before!r} and as {name!r}; give it one name"
                )
    return found


def _by_stem(ids: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for image_id in ids:
        found.setdefault(_strip_ending(image_id), []).append(image_id)
    return found


def _find(name: str, by_stem: dict[str, list[str]], where: str) -> str:
    fits = by_stem.get(_strip_ending(name), [name])
    if name in fits or len(fits) == 1:
        return name if name in fits else fits[0]
    raise NdecError(f"{where} names {name!r}, which fits {', '.join(map(repr, fits))}; give the full id")


def check_ids(rows: Sequence[Match], query_ids: Iterable[str], reference_ids: Iterable[str] | None) -> None:
    """Check that every id of a ground truth is an image. `reference_ids=None`: references are not known yet.

    Raises NdecError naming the first unknown ids and how many there are.
    """
    queries = set(query_ids)
    _refuse("query", [query for query, _ in rows if query not in queries], len(queries))
    if reference_ids is not None:
        references = set(reference_ids)
        unknown = [reference for _, reference in rows if reference is not None and reference not in references]
        _refuse("reference", unknown, len(references))


def check_added(rows: Sequence[Match], before: pa.Table) -> None:
    """Check that a ground truth agrees with the one that it is added to (schema GROUND_TRUTH).

    Raises NdecError naming a query that one of them gives a reference and the other lists without a match.
    """
    old = list(zip(before["query_id"].to_pylist(), before["reference_id"].to_pylist(), strict=True))
    everything = {*rows, *old}
    matched = {query for query, reference in everything if reference is not None}
    if clash := sorted(query for query, reference in everything if reference is None and query in matched):
        one = next(reference for query, reference in sorted(everything - {(clash[0], None)}) if query == clash[0])
        raise NdecError(
            f"{number_of(len(clash), 'query has', 'queries have')} a reference in one ground truth and no match in "
            f"another, e.g. {clash[0]!r} with {one!r}: the workspace and the one given do not agree. Fix the csv, or "
            "put all rows into one csv and leave out --add"
        )


def _row(path: Path, line: int, cells: list[str], known: Collection[str]) -> Match:
    if len(cells) != 2:
        raise NdecError(
            f"{path}, line {line}: {len(cells)} columns ({','.join(cells)[:80]!r}), expected query_id,reference_id "
            "(leave the reference empty where a query has no match)"
        )
    query, reference = (_strip_ending(cell, known) for cell in cells)
    if not query:
        raise NdecError(
            f"{path}, line {line}: the query_id is empty ({','.join(cells)!r}); name the query in column one"
        )
    return query, reference or None


def _strip_ending(name: str, known: Collection[str] = ()) -> str:
    return name if name in known else without_picture_ending(name)


def _no_contradiction(path: Path, rows: list[Match], first_line: dict[Match, int]) -> None:
    matched = {query for query, reference in rows if reference is not None}
    for row in rows:
        if row[1] is None and row[0] in matched:
            raise NdecError(
                f"{path}, line {first_line[row]}: query {row[0]!r} is listed without a match, but another line gives "
                "it a reference; remove one of the two"
            )


def _refuse(what: str, unknown: list[str], known: int) -> None:
    if unknown:
        distinct = list(dict.fromkeys(unknown))
        names = ", ".join(repr(name) for name in distinct[:5]) + (", …" if len(distinct) > 5 else "")
        raise NdecError(
            f"the ground truth names {number_of(len(distinct), f'{what} id')} not among the "
            f"{number_of(known, f'{what} image')}: {names}; "
            f"ids are file names without endings, unless --id chose others: ingest the missing files, or fix the csv"
        )
