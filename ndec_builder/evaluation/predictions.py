"""Predictions: scored (query, reference) pairs, read from and written to csv `query_id,reference_id,score`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.storage import atomic_path
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS

COLUMNS = ["query_id", "reference_id", "score"]


@dataclass(frozen=True)
class Predictions:
    """Scored pairs over ascending id lists. query, reference: (m,) int64 places in them · scores: (m,) float64.

    protocol says how the list came about: the search changes every number computed from it.
    """

    query: np.ndarray
    reference: np.ndarray
    scores: np.ndarray
    protocol: str

    def __len__(self) -> int:
        return len(self.scores)

    def pairs(self, references: int) -> np.ndarray:
        """A number per pair, ascending in (query_id, reference_id)."""
        return self.query * references + self.reference


def read_predictions(path: Path, query_ids: Sequence[str], reference_ids: Sequence[str]) -> Predictions:
    """Read a csv with or without header. Ids must be among those given (ascending).

    Raises UsageError when there is no such file; NdecError with the line number for wrong columns, an unknown id, a
    score that is no number, a pair that comes twice, more than 500,000 rows.
    """
    if not path.is_file():
        raise UsageError(f"there is no predictions file {path}; --predictions wants a csv `{','.join(COLUMNS)}`")
    places = [{name: i for i, name in enumerate(ids)} for ids in (query_ids, reference_ids)]
    rows: dict[tuple[int, int], float] = {}
    lines: dict[tuple[int, int], int] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            for number, cells in enumerate(csv.reader(file), start=1):
                if not cells or (number == 1 and _is_header(cells, path)):
                    continue
                pair, score = _parse(cells, places, f"{path}, line {number}")
                if pair in rows:
                    raise NdecError(
                        f"{path}, line {number}: the pair ({cells[0]}, {cells[1]}) was predicted on line {lines[pair]} "
                        "already; a pair may be predicted once: keep the better score"
                    )
                if len(rows) == MAX_PREDICTIONS:
                    raise NdecError(f"{path}, line {number}: more than {MAX_PREDICTIONS:,} predictions; keep the best")
                rows[pair], lines[pair] = score, number
        except (UnicodeDecodeError, csv.Error) as error:
            raise NdecError(f"{path} is no csv in UTF-8 ({error}); expected rows `{','.join(COLUMNS)}`") from None
    found = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
    return Predictions(
        found[:, 0], found[:, 1], np.array(list(rows.values()), dtype=np.float64),
        f"{len(rows):,} predictions as given in {path.name}; their search is not known here",
    )  # fmt: skip


def _is_header(cells: list[str], path: Path) -> bool:
    """A first line whose last cell is no number is a header, and must be the right one."""
    try:
        float(cells[-1])
        return False
    except ValueError:
        pass
    if [cell.strip() for cell in cells] == COLUMNS:
        return True
    raise NdecError(
        f"{path}, line 1: the columns are {','.join(cells)}; expected {','.join(COLUMNS)}, or rows without a header"
    )


def _parse(cells: list[str], places: list[dict[str, int]], where: str) -> tuple[tuple[int, int], float]:
    if len(cells) != 3:
        raise NdecError(f"{where}: {len(cells)} columns; expected 3: {','.join(COLUMNS)}")
    pair = []
    for what, name, known in zip(COLUMNS, cells, places, strict=False):
        place = known.get(name, known.get(name.strip()))
        if place is None:
            close = nearest(name, list(known)[:10_000])  # a hint, not worth a search through a million ids
            raise NdecError(f"{where}: {what} {name!r} is not in this dataset ({len(known):,} ids){close}")
        pair.append(place)
    try:
        score = float(cells[2])
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise NdecError(
            f"{where}: the score {cells[2]!r} of ({cells[0]}, {cells[1]}) is not a number; higher is better"
        )
    return (pair[0], pair[1]), score


def write_predictions(
    path: Path, predictions: Predictions, query_ids: Sequence[str], reference_ids: Sequence[str]
) -> Path:
    """Write the csv in the total order (score desc, query_id, reference_id), scores so that they read back exactly."""
    order = np.lexsort((predictions.reference, predictions.query, -predictions.scores))
    rows = zip(
        predictions.query[order].tolist(), predictions.reference[order].tolist(), predictions.scores[order].tolist(),
        strict=True,
    )  # fmt: skip
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((query_ids[q], reference_ids[r], repr(score)) for q, r, score in rows)
    return path
