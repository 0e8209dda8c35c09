"""The two csv files of a dataset, written in pieces: ground truth in DISC21 form, and the attribution of all images."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.schemas import LICENCE_COLUMNS
from ndec_builder.core.storage import atomic_path

IMAGE_TABLES = {
    "queries": "query_id",
    "references": "image_id",
    "train_basic": "image_id",
    "train_pair_images": "image_id",
}
URL_COLUMNS = ("author_url", "original_url", "landing_url")
SUSPECT = r"://[^/?#]*@|[?&#;]"  # what a URL with a password, token or signature must hold
FORMULA_START = r"^[=+\-@\t\r]"
_BATCH = 65_536  # rows formatted at a time


def ground_truth_csv(table: pa.Table) -> Iterator[bytes]:
    """`query_id,reference_id` with header, one line per query, the reference empty where there is none.

    Cells are never escaped: programs join on them.
    """
    yield _text([("query_id", "reference_id")])
    for batch in table.select(["query_id", "reference_id"]).to_batches(_BATCH):
        yield _text(zip(*(pc.fill_null(column, "").to_pylist() for column in batch.columns), strict=True))


def attribution_csv(tables: dict[str, pa.Table]) -> Iterator[bytes]:
    """One line per image: table, id, licence columns. An apostrophe defuses cells that a spreadsheet would run."""
    yield _text([("table", "image_id", *LICENCE_COLUMNS)])
    for name, key in IMAGE_TABLES.items():
        for batch in tables[name].select([key, *LICENCE_COLUMNS]).to_batches(_BATCH):
            cells = [guarded(column).to_pylist() for column in batch.columns]
            yield _text(zip([name] * len(batch), *cells, strict=True))


def guarded(column: pa.Array) -> pa.Array:
    """Null becomes empty; an apostrophe defuses cells that start like a formula (OWASP, CSV injection)."""
    text = pc.fill_null(column, "")
    return pc.if_else(pc.match_substring_regex(text, FORMULA_START), pc.binary_join_element_wise("'", text, ""), text)


def guarded_text(cell: str) -> str:
    """`guarded` for one cell."""
    return f"'{cell}" if re.match(FORMULA_START, cell) else cell


def write_pieces(path: Path, pieces: Iterable[bytes]) -> Path:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)
    return path


def same_content(path: Path, pieces: Iterable[bytes]) -> bool:
    """Whether a file holds exactly these bytes, compared piece by piece."""
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def _text(rows: Iterable[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8")
