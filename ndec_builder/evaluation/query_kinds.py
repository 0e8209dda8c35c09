"""`--kinds CSV`: which queries of plain folders are hard negatives, and which queries belong together.

Columns with a header: `query_id,kind` and optionally `hard_kind` and `group`. A manifest has the same columns.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.vocabulary import HARD_KINDS, QUERY_KINDS
from ndec_builder.sources.ground_truth import match_ids

_NEEDED, _OPTIONAL = ("query_id", "kind"), ("hard_kind", "group")
_FORM = "query_id,kind[,hard_kind][,group]"


@dataclass(frozen=True)
class QueryKind:
    """One row. kind: one of QUERY_KINDS · hard_kind: one of HARD_KINDS, None if unknown · group: None if not given."""

    kind: str
    hard_kind: str | None = None
    group: str | None = None


def read_query_kinds(path: Path, query_ids: Collection[str]) -> dict[str, QueryKind]:
    """Query id → its row; ids with or without the ending of the file.

    Raises UsageError for a missing file; NdecError with the line for other columns, an unknown id, kind or hard_kind,
    a hard_kind of another kind of query, or an id that appears twice.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; --kinds needs a csv with the columns {_FORM}")
    try:
        reader = csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise NdecError(f"{path} is not a csv in UTF-8 ({error}); expected the columns {_FORM}") from None
    header = [name.lower() for name in lines[0][1]] if lines else []
    if not set(_NEEDED) <= set(header) <= {*_NEEDED, *_OPTIONAL} or len(set(header)) < len(header):
        raise NdecError(f"{path}, line 1: the columns are {','.join(header) or 'missing'}; expected {_FORM}")
    known, found, rows = set(query_ids), dict[str, QueryKind](), list[tuple[str, str, QueryKind]]()
    for line, cells in lines[1:]:
        where = f"{path}, line {line}"
        if len(cells) != len(header):
            raise NdecError(f"{where}: {len(cells)} columns; the header has {len(header)}")
        rows.append((where, *_row(where, dict(zip(header, cells, strict=True)))))
    matched = match_ids([(name, None) for _, name, _ in rows], known, None, str(path))
    for (where, name, row), (query, _) in zip(rows, matched, strict=True):
        if query not in known:
            close = nearest(query, sorted(known)[:10_000])  # only a hint
            raise NdecError(f"{where}: {name!r} is not among the {len(known):,} queries{close}")
        if query in found:
            raise NdecError(f"{where}: the query {query!r} was listed before; list it once")
        found[query] = row
    return found


def settle_kinds(
    path: Path, listed: Mapping[str, QueryKind], query_ids: Sequence[str], with_match: Collection[str]
) -> tuple[list[QueryKind], str]:
    """The kind of every query, and the sentence that counts them.

    A query that is not listed is an edited copy if the ground truth gives it a reference, otherwise a distractor.
    Raises NdecError where a listed kind contradicts the ground truth.
    """
    for query, row in listed.items():
        if (row.kind == "edited_copy") != (query in with_match):
            truth = "gives it a reference" if query in with_match else "gives it no reference"
            raise NdecError(
                f"{path} calls {query!r} {row.kind}, but the ground truth {truth}; an edited_copy has a reference, a "
                "hard_negative or distractor has none: correct one of the two files"
            )
    assumed = {
        query: QueryKind("edited_copy" if query in with_match else "distractor")
        for query in query_ids
        if query not in listed
    }
    rows = [listed.get(query) or assumed[query] for query in query_ids]
    counts = Counter(row.kind for row in rows)
    hard = Counter(row.hard_kind or "of unspecified kind" for row in rows if row.kind == "hard_negative")
    text = f"{path.name}: {', '.join(f'{counts[kind]:,} {kind}' for kind in QUERY_KINDS)}"
    text += f" ({', '.join(f'{count:,} {kind}' for kind, count in sorted(hard.items()))})" if hard else ""
    if assumed:
        copies = sum(row.kind == "edited_copy" for row in assumed.values())
        text += (
            f"; {len(assumed):,} of these queries are not listed: {copies:,} with a reference count as edited_copy, "
            f"{len(assumed) - copies:,} without one as distractor"
        )
    return rows, text


def _row(where: str, cells: Mapping[str, str]) -> tuple[str, QueryKind]:
    kind, hard_kind = cells["kind"], cells.get("hard_kind") or None
    if kind not in QUERY_KINDS:
        raise NdecError(f"{where}: kind is {kind!r}; it must be one of {', '.join(QUERY_KINDS)}")
    if hard_kind is not None and hard_kind not in HARD_KINDS:
        raise NdecError(f"{where}: hard_kind is {hard_kind!r}; it must be one of {', '.join(HARD_KINDS)}, or empty")
    if hard_kind is not None and kind != "hard_negative":
        raise NdecError(f"{where}: hard_kind is {hard_kind!r}, but kind is {kind}; only a hard_negative has one")
    return cells["query_id"], QueryKind(kind, hard_kind, cells.get("group") or None)
