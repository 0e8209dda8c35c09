"""Set arithmetic on whole columns: a million rows in a second, and no Python object a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.ChunkedArray | pa.Array


def joined(columns: Iterable[Column]) -> pa.ChunkedArray:
    """String columns one after the other, as one column."""
    chunks = [
        chunk for column in columns for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
    ]
    return pa.chunked_array(chunks, type=pa.string())


def texts(values: Iterable[str | None]) -> pa.Array:
    return pa.array(list(values), pa.string())


def mask(column: Column) -> np.ndarray:
    """(n,) bool of a boolean column; null is False."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def filled(column: Column) -> np.ndarray:
    """(n,) bool: not null and not the empty text."""
    return mask(pc.not_equal(column, ""))


def within(column: Column, values: Column) -> np.ndarray:
    """(n,) bool: which values of the column are among `values`. Null is in nothing."""
    there = values.filter(pc.is_valid(values))
    if isinstance(there, pa.ChunkedArray):
        there = there.combine_chunks()
    return mask(pc.is_in(column, value_set=there, skip_nulls=True))


def places(column: Column, values: Column) -> np.ndarray:
    """(n,) int64: the place of each value in `values`, the first when it is there twice; −1 when it is not."""
    wanted = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    found = pc.fill_null(pc.index_in(column, value_set=wanted), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def take(values: Any, place: np.ndarray) -> Any:
    """Rows of a column or table at these places; null, or a row of nulls, at a negative place."""
    return values.take(pa.array(place, pa.int64(), mask=place < 0))


def codes(column: Column) -> np.ndarray:
    """(n,) int64: equal values have equal numbers; null is −1."""
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    indices = pc.fill_null(encoded.dictionary_encode().indices, -1)
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def first_of_each(column: Column) -> np.ndarray:
    """(n,) bool: True where a value stands for the first time; an unknown one equals nothing, so each null is."""
    numbers = codes(column)
    result = numbers < 0
    result[np.unique(numbers, return_index=True)[1]] = True
    return result


def repeated(column: Column) -> pa.Array:
    """The values that stand more than once, null excepted, in the order of their first place."""
    counts = pc.value_counts(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    values, times = counts.field("values"), counts.field("counts")
    return values.filter(pc.and_(pc.greater(times, 1), pc.is_valid(values)))


def tally(column: Column, missing: str | None = None) -> dict[str, int]:
    """{value: rows}, ascending by value. Null and empty count as `missing`; None leaves them out."""
    if not len(column):
        return {}
    result: dict[str, int] = {}
    for entry in pc.value_counts(
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    ).to_pylist():
        name = entry["values"] or missing
        if name is not None:
            result[name] = result.get(name, 0) + entry["counts"]
    return dict(sorted(result.items()))


def reasons(count: int, tests: Sequence[tuple[str, np.ndarray]]) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows fail no test, (n,) bool, and how many fail each, a row counted under the first that it fails."""
    open_ = np.ones(count, dtype=bool)
    drops = {}
    for reason, failed in tests:
        if dropped := int((open_ & failed).sum()):
            drops[reason] = dropped
        open_ &= ~failed
    return open_, dict(sorted(drops.items()))
