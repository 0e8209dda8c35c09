"""What a detector wrote → predictions on the dataset, with everything that had to be assumed or left out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import PREDICTION_COLUMNS, Predictions

_FORM = ",".join(PREDICTION_COLUMNS)


def read_raw(path: Path, queries: Mapping[str, int], references: Mapping[str, int]) -> tuple[Predictions, list[str]]:
    """Pairs and notes of a csv `query,reference,score`. queries, references: name → row of the dataset.

    A name with a folder or a suffix that the dataset does not have is found by its stem. Unknown names and values that
    are no numbers are left out and counted. Of a pair that is listed twice the better score counts. Raises NdecError
    for another form, an infinite score, or when no row can be used.
    """
    best: dict[tuple[int, int], float] = {}
    strangers, renamed, not_numbers, total, example = 0, 0, 0, 0, ""
    for number, cells in _rows(path):
        if not cells or (number == 1 and [cell.strip() for cell in cells] == PREDICTION_COLUMNS):
            continue
        if len(cells) != 3:
            raise NdecError(f"{path}, line {number}: {len(cells)} columns; expected {_FORM}")
        total += 1
        places = _place(cells[0], queries), _place(cells[1], references)
        if places[0] is None or places[1] is None:
            strangers, example = strangers + 1, example or cells[0 if places[0] is None else 1]
            continue
        renamed += places[0][1] or places[1][1]
        score = _number(cells[2])
        if math.isnan(score):
            not_numbers += 1
            continue
        if math.isinf(score):
            raise NdecError(f"{path}, line {number}: the score is {cells[2]}; scores must be finite numbers")
        pair = places[0][0], places[1][0]
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
            (renamed, "image named with another folder or suffix"),
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


def _place(name: str, known: Mapping[str, int]) -> tuple[int, bool] | None:
    if (place := known.get(name)) is not None:
        return place, False
    path = PurePosixPath(name.strip().replace("\\", "/"))
    for text in (path.name, path.stem):
        if (place := known.get(text)) is not None:
            return place, True
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
