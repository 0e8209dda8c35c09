"""Tables as Python objects: the same values as pyarrow's own, times too."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.rows import as_rows, as_values
from ndec_builder.core.schemas import LABEL_ROWS, SKIPS

MOMENTS = st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(st.lists(st.tuples(MOMENTS, st.none() | st.text(), st.booleans())), st.sampled_from(("s", "ms", "us")))
def test_rows_are_those_of_pyarrow(rows: list[tuple[datetime | None, str | None, bool]], unit: str) -> None:
    schema = pa.schema([("at", pa.timestamp("us", "UTC")), ("text", pa.string()), ("yes", pa.bool_())])
    table = pa.table([list(cells) for cells in zip(*rows, strict=True)] if rows else [[], [], []], schema=schema)
    table = table.set_column(0, "at", table["at"].cast(pa.timestamp(unit, "UTC"), safe=False))
    assert as_rows(table) == table.to_pylist()
    assert [str(row["at"]) for row in as_rows(table)] == [str(moment) for moment in table["at"].to_pylist()]
    assert as_rows(table.select([])) == table.select([]).to_pylist()


def test_other_zones_and_chunks_are_left_to_pyarrow() -> None:
    moments = [datetime(2026, 7, 1, 12, tzinfo=UTC), None]
    there = pa.chunked_array([pa.array(moments, pa.timestamp("us", "Europe/Berlin"))] * 2)
    assert as_values(there) == moments * 2 and str(as_values(there)[0]).endswith("+02:00")
    assert as_values(pa.chunked_array([], pa.timestamp("us", "UTC"))) == []


@pytest.mark.parametrize("schema", [LABEL_ROWS, SKIPS], ids=["labels", "skips"])
def test_times_of_annotation_are_in_the_zone_that_is_fast(schema: pa.Schema) -> None:
    zones = {field.type.tz for field in schema if pa.types.is_timestamp(field.type)}
    assert zones == {"UTC"}
