"""Fingerprints of columns: values and order count, chunks and slices do not."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.fingerprints import columns_fingerprint, images_fingerprint
from ndec_builder.core.schemas import IMAGES, table_of

TEXTS = st.lists(st.none() | st.text(max_size=4), max_size=12)


def of(values: list[str | None], cut: int = 0) -> str:
    parts = [pa.array(values[:cut], pa.string()), pa.array(values[cut:], pa.string())]
    return columns_fingerprint({"a": pa.chunked_array(parts)})


@pytest.mark.slow
@given(TEXTS, st.integers(0, 12))
def test_chunks_and_slices_do_not_count(values: list[str | None], cut: int) -> None:
    longer = pa.chunked_array([pa.array(["before", *values, "after"], pa.string())])
    assert of(values, cut) == of(values) == columns_fingerprint({"a": longer.slice(1, len(values))})


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_values_and_order_count(first: list[str | None], second: list[str | None]) -> None:
    assert (of(first) == of(second)) == (first == second)


@given(st.lists(st.none() | st.integers(0, 360)), st.lists(st.none() | st.integers(0, 360)))
def test_numbers_too(first: list[int | None], second: list[int | None]) -> None:
    marks = [columns_fingerprint({"a": pa.chunked_array([pa.array(values, pa.int32())])}) for values in (first, second)]
    assert (marks[0] == marks[1]) == (first == second)


def test_an_image_counts_by_its_content_and_by_its_uri_only_when_never_opened() -> None:
    def table(**row: object) -> pa.Table:
        return table_of(IMAGES, [{"image_id": "a", "uri": "u", "sha256": "s", "rotation": 0, **row}])

    mark = images_fingerprint(table())
    assert images_fingerprint(table(uri="v")) == images_fingerprint(table(license="CC0-1.0")) == mark
    assert len({mark, *(images_fingerprint(table(**{k: v})) for k, v in (("sha256", "t"), ("rotation", 90)))}) == 3
    assert images_fingerprint(table(sha256=None)) != images_fingerprint(table(sha256=None, uri="v"))
