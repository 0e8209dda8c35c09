from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.schemas import CANDIDATES, GROUND_TRUTH, IMAGES, conform, pair_id, table_of

ids = st.text(min_size=1, max_size=8)


@given(ids, ids, ids, ids)
def test_pair_ids_are_directed_and_belong_to_one_pair(a: str, b: str, c: str, d: str) -> None:
    assert pair_id("test", a, b) == pair_id("test", a, b)
    assert pair_id("test", a, b) != pair_id("train", a, b)
    if "\x1f" not in a + b + c + d:
        assert (pair_id("test", a, b) == pair_id("test", c, d)) == ((a, b) == (c, d))


def test_missing_cells_become_null_and_unknown_columns_are_refused() -> None:
    table = table_of(CANDIDATES, [{"pair_id": "p", "score": 0.5}])
    assert table.schema.equals(CANDIDATES, check_metadata=True)
    assert table["query_id"].to_pylist() == [None]
    with pytest.raises(NdecError, match="'scores'"):
        table_of(CANDIDATES, [{"scores": 1}])


def test_conform_orders_columns_and_names_missing_ones() -> None:
    table = pa.table({"reference_id": ["r"], "more": [1], "query_id": ["q"]})
    assert conform(table, GROUND_TRUTH).column_names == ["query_id", "reference_id"]
    with pytest.raises(NdecError, match=r"missing: \['reference_id'\]"):
        conform(table.drop_columns(["reference_id"]), GROUND_TRUTH)


def test_an_image_that_was_never_opened_is_known_by_its_uri() -> None:
    def mark(opened_uri: str, other_uri: str) -> str:
        opened = {"image_id": "a", "uri": opened_uri, "sha256": "5a"}
        return images_fingerprint(table_of(IMAGES, [opened, {"image_id": "b", "uri": other_uri}]))

    assert mark("a.jpg", "s3://bucket/b.jpg") == mark("moved.jpg", "s3://bucket/b.jpg")
    assert mark("a.jpg", "s3://bucket/b.jpg") != mark("a.jpg", "s3://bucket/c.jpg")
