"""What a detector wrote → predictions on the dataset, with everything that had to be assumed or left out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.image_names import LOOSE, ImageNames
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import PREDICTION_COLUMNS, Predictions

_FORM = ",".join(PREDICTION_COLUMNS)


def read_raw(path: Path, queries: Iterable[str], references: Iterable[str]) -> tuple[Predictions, list[str]]:
    """Pairs and notes of a csv `query,reference,score`. queries, references: names in the row order of the dataset.

    A name may have other folders or another ending (`ImageNames`). Unknown names and values that are no numbers are
    left out and counted. Of a pair that is listed twice the better score counts. Raises NdecError for another form, an
    infinite score, two names of one image, or when no row can be used.
    """
    sides = ImageNames(queries), ImageNames(references)
    best: dict[tuple[int, int], float] = {}
    strangers, renamed, not_numbers, total, example = 0, 0, 0, 0, ""
    for number, cells in _rows(path):
        if not cells or (number == 1 and [cell.strip() for cell in cells] == PREDICTION_COLUMNS):
            continue
        if len(cells) != 3:
            raise NdecError(f"{path}, line {number}: {len(cells)} columns; expected {_FORM}")
        total += 1
        try:
            query, reference = (names.row(cell) for names, cell in zip(sides, cells, strict=False))
        except NdecError as error:
            raise NdecError(f"{path}, line {number}: {error}") from None
        if query is None or reference is None:
            strangers, example = strangers + 1, example or cells[0 if query is None else 1]
            continue
        renamed += not (sides[0].is_id(cells[0]) and sides[1].is_id(cells[1]))
        score = _number(cells[2])
        if math.isnan(score):
            not_numbers += 1
            continue
        if math.isinf(score):
            raise NdecError(f"{path}, line {number}: the score is {cells[2]}; scores must be finite numbers")
        pair = query, reference
        best[pair] = max(score, best.get(pair, -math.inf))
    if total and not best:
        raise NdecError(
            f"no row of {path.name} ({total:,}) can be used: {strangers:,} name no image of the dataset "
            f"(first: {example!r}), {not_numbers:,} have a score that is no number"
        )
    notes = [
        f"{what}: {number_of(count, 'row')}"
        for count, what in (
            (strangers, f"left out, no image of the dataset has the name (first: {example!r})"),
            (not_numbers, "left out, the score is no number"),
            (renamed, LOOSE),
            (total - strangers - not_numbers - len(best), "a pair repeated, the better score counts"),
        )
        if count
    ]
    pairs = np.array(list(best), dtype=np.int64).reshape(-1, 2)
    scores = np.array(list(best.values()), dtype=np.float64)
    return Predictions(pairs[:, 0], pairs[:, 1], scores, f"as written by the detector, {len(best):,} pairs"), notes


def restrict(found: Predictions, rows: np.ndarray) -> Predictions:
    """The predictions of some queries. rows: (nq,) int64, the new row of each query or −1.

    At most MAX_PREDICTIONS, the best ones, and never only some of those with equal scores.
    """
    kept = rows[found.query] >= 0
    if kept.sum() > MAX_PREDICTIONS:
        limit = np.sort(found.scores[kept])[-MAX_PREDICTIONS - 1]
        kept &= found.scores > limit
    return Predictions(rows[found.query[kept]], found.reference[kept], found.scores[kept], found.protocol)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a csv."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            yield from enumerate(csv.reader(file), start=1)
        except (UnicodeDecodeError, csv.Error) as error:
            raise NdecError(f"{path} is not a csv in UTF-8 ({error}); expected rows `{_FORM}`") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
