"""Predictions: scored (query, reference) pairs, read from and written to csv `query_id,reference_id,score`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.storage import atomic_path
from ndec_builder.evaluation.image_names import LOOSE, ImageNames
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS

PREDICTION_COLUMNS = ["query_id", "reference_id", "score"]
_FORM = ",".join(PREDICTION_COLUMNS)


@dataclass(frozen=True)
class Predictions:
    """Scored pairs over ascending id lists. query, reference: (m,) int64 indices into them · scores: (m,) float64.

    protocol: how the list was made; every number depends on the search.
    """

    query: np.ndarray
    reference: np.ndarray
    scores: np.ndarray
    protocol: str

    def __len__(self) -> int:
        return len(self.scores)

    def pairs(self, references: int) -> np.ndarray:
        """One number per pair, ascending in (query_id, reference_id)."""
        return self.query * references + self.reference

    def best(self, most: int) -> Predictions:
        """The `most` best predictions by (score desc, query, reference); the same object if there are no more."""
        if len(self) <= most:
            return self
        rows = np.sort(np.lexsort((self.reference, self.query, -self.scores))[:most])
        return Predictions(self.query[rows], self.reference[rows], self.scores[rows], self.protocol)

    def best_of_queries(self) -> Predictions:
        """The best prediction of each query, in query order; among equal scores the one with the first reference."""
        order = np.lexsort((self.reference, -self.scores, self.query))
        first = order[np.flatnonzero(np.diff(self.query[order], prepend=-1))]
        return Predictions(self.query[first], self.reference[first], self.scores[first], self.protocol)


def read_predictions(path: Path, query_ids: Sequence[str], reference_ids: Sequence[str]) -> Predictions:
    """Read a csv with or without a header. Its ids must be among the given ones (ascending), but may have folders
    before them or another ending (`ImageNames`); such rows are counted in the protocol and printed.

    Raises UsageError if the file does not exist; NdecError with the line number for wrong columns, an unknown id, two
    names of one image, a score that is not a finite number, a pair that appears twice, or more than 500,000 rows.
    """
    if not path.is_file():
        raise UsageError(f"there is no predictions file {path}; --predictions needs a csv `{_FORM}`")
    if (columns := _read_columns(path, (query_ids, reference_ids))) is not None:
        return Predictions(*columns, _protocol(len(columns[0]), path))
    sides, loose = (ImageNames(query_ids), ImageNames(reference_ids)), 0
    rows: dict[tuple[int, int], float] = {}
    lines: dict[tuple[int, int], int] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            for number, cells in enumerate(csv.reader(file), start=1):
                if not cells or (number == 1 and _is_header(cells, path)):
                    continue
                pair, score = _parse(cells, sides, f"{path}, line {number}")
                loose += not (sides[0].is_id(cells[0]) and sides[1].is_id(cells[1]))
                if pair in rows:
                    raise NdecError(
                        f"{path}, line {number}: the pair ({cells[0]}, {cells[1]}) is already on line "
                        f"{lines[pair]}; each pair may appear once: keep the better score"
                    )
                if len(rows) == MAX_PREDICTIONS:
                    raise NdecError(f"{path}, line {number}: more than {MAX_PREDICTIONS:,} predictions; keep the best")
                rows[pair], lines[pair] = score, number
        except (UnicodeDecodeError, csv.Error) as error:
            raise NdecError(f"{path} is not a csv in UTF-8 ({error}); expected rows `{_FORM}`") from None
    found = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
    scores = np.array(list(rows.values()), dtype=np.float64)
    if loose:
        say(f"{path.name}: {LOOSE}: {number_of(loose, 'row')}")
    return Predictions(found[:, 0], found[:, 1], scores, _protocol(len(rows), path, loose))


def _protocol(count: int, path: Path, loose: int = 0) -> str:
    more = f"; {LOOSE}: {number_of(loose, 'row')}" if loose else ""
    return f"{count:,} predictions as given in {path.name}; how they were searched is not known{more}"


def _read_columns(path: Path, ids: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Queries, references and scores of a csv as `write_predictions` writes it, many times faster than line by line.

    None for any other file, and for one with a fault: then reading line by line says what it is.
    """
    types = dict(zip(PREDICTION_COLUMNS, (pa.string(), pa.string(), pa.float64()), strict=True))
    options = (
        pyarrow.csv.ReadOptions(use_threads=False),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(column_types=types, null_values=[]),
    )
    batches, count = [], 0
    try:
        with path.open("rb") as file, pyarrow.csv.open_csv(file, *options) as reader:
            if reader.schema.names != PREDICTION_COLUMNS:
                return None
            for batch in reader:
                batches.append(batch)
                count += len(batch)
                if count > MAX_PREDICTIONS:
                    return None
            table = pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, UnicodeDecodeError):  # Arrow decodes the names of columns late
        return None
    found = [pc.index_in(table[side], pa.array(known, pa.string())) for side, known in enumerate(ids)]
    scores = np.array(table["score"].to_numpy())  # writable
    if any(column.null_count for column in found) or not np.isfinite(scores).all():
        return None
    query, reference = (column.to_numpy().astype(np.int64) for column in found)
    pairs = query * len(ids[1]) + reference
    return None if not count or len(np.unique(pairs)) < count else (query, reference, scores)


def _is_header(cells: list[str], path: Path) -> bool:
    """Whether this first line is a header: its last cell is not a number. Raises NdecError for a wrong header."""
    try:
        float(cells[-1])
        return False
    except ValueError:
        pass
    if [cell.strip() for cell in cells] == PREDICTION_COLUMNS:
        return True
    raise NdecError(f"{path}, line 1: the columns are {','.join(cells)}; expected {_FORM}, or rows without a header")


def _parse(cells: list[str], sides: Sequence[ImageNames], where: str) -> tuple[tuple[int, int], float]:
    if len(cells) != 3:
        raise NdecError(f"{where}: {len(cells)} columns; expected 3: {_FORM}")
    pair = []
    for what, name, known in zip(PREDICTION_COLUMNS, cells, sides, strict=False):
        try:
            place = known.row(name)
        except NdecError as error:
            raise NdecError(f"{where}: {error}") from None
        if place is None:
            close = nearest(name, list(known)[:10_000])  # only a hint: do not search a million ids
            raise NdecError(f"{where}: {what} {name!r} is not in this dataset ({len(known):,} ids){close}")
        pair.append(place)
    try:
        score = float(cells[2])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise NdecError(
            f"{where}: the score {cells[2]!r} of ({cells[0]}, {cells[1]}) is not a finite number; higher is better. "
            "Write a number that is larger, or smaller, than all others"
        )
    return (pair[0], pair[1]), score


def write_predictions(
    path: Path, predictions: Predictions, query_ids: Sequence[str], reference_ids: Sequence[str]
) -> Path:
    """Write the csv in the order (score desc, query_id, reference_id), with scores that read back exactly."""
    order = np.lexsort((predictions.reference, predictions.query, -predictions.scores))
    names, others = _cells(query_ids), _cells(reference_ids)
    rows = zip(
        predictions.query[order].tolist(), predictions.reference[order].tolist(), predictions.scores[order].tolist(),
        strict=True,
    )  # fmt: skip
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        file.write(_FORM + "\n")
        file.writelines(f"{names[q]},{others[r]},{score!r}\n" for q, r, score in rows)
    return path


def _cells(ids: Sequence[str]) -> list[str]:
    """Each id as a cell of a csv, quoted where needed: half a million rows have few ids."""
    cells: list[str] = []
    writer = csv.writer(SimpleNamespace(write=cells.append), lineterminator="\n")
    writer.writerows([name, ""] for name in ids)
    return [cell.removesuffix(",\n") for cell in cells]
