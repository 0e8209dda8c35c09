"""The two csv files of a dataset: ground truth in DISC21 form, and the attribution of every image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import pyarrow as pa

from ndec_builder.core.schemas import LICENCE_COLUMNS

IMAGE_TABLES = {
    "queries": "query_id",
    "references": "image_id",
    "train_basic": "image_id",
    "train_pair_images": "image_id",
}
FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def ground_truth_csv(table: pa.Table) -> str:
    """`query_id,reference_id` with header, one line per query, the reference empty where there is none.

    Cells are exact, never guarded: programs join on them.
    """
    rows = zip(table["query_id"].to_pylist(), table["reference_id"].to_pylist(), strict=True)
    return _csv(("query_id", "reference_id"), ((query, reference or "") for query, reference in rows))


def attribution_csv(tables: dict[str, pa.Table]) -> str:
    """One line per image: table, id, licence columns. Cells that a spreadsheet would run get an apostrophe."""
    rows = (
        [name, *(guarded(row[column]) for column in (key, *LICENCE_COLUMNS))]
        for name, key in IMAGE_TABLES.items()
        for row in tables[name].select([key, *LICENCE_COLUMNS]).to_pylist()
    )
    return _csv(("table", "image_id", *LICENCE_COLUMNS), rows)


def guarded(cell: str | None) -> str:
    """Return the cell as text; one that starts like a formula is defused with an apostrophe (OWASP, CSV injection)."""
    text = cell or ""
    return "'" + text if text.startswith(FORMULA_START) else text


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
