"""Which picture an id had at an earlier time, against a plain search through the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.schemas import IMAGES, REPLACED, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.pictures_over_time import PicturesOverTime, record_replaced
from ndec_builder.sources.replaced import find_forgotten

START = datetime(2026, 3, 1, tzinfo=UTC)
IDS = ("a", "b", "é", "z")
Row = tuple[str, int, str | None]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("over-time"))
    rows = [{"image_id": name, "role": "pool", "uri": name, "sha256": f"now {name}"} for name in ("a", "b")]
    write_table(made.images("pool"), table_of(IMAGES, rows))
    return made


def read(workspace: Workspace, rows: list[Row]) -> PicturesOverTime:
    record = [{"image_id": name, "until": START + timedelta(days=day), "sha256": sha} for name, day, sha in rows]
    write_table(workspace.replaced_images("pool"), table_of(REPLACED, record))
    return PicturesOverTime(workspace, "pool")


@given(
    st.lists(
        st.tuples(st.sampled_from(IDS), st.integers(0, 9), st.none() | st.text("0123456789abcdef", min_size=1)),
        unique_by=lambda row: row[:2],
    ),
    st.integers(-1, 19),
)
def test_every_question_is_answered_as_by_a_search(workspace: Workspace, rows: list[Row], half_days: int) -> None:
    pictures, moment = read(workspace, rows), START + timedelta(days=half_days / 2)
    assert sorted(pictures.replaced.to_pylist()) == sorted({name for name, _, _ in rows})
    for name in IDS:
        own = sorted((day, sha) for other, day, sha in rows if other == name and sha is not None)
        assert pictures.former(name) == [sha for _, sha in own]
        assert pictures.earlier(name, moment) == next((sha for day, sha in own if day > half_days / 2), None)
        now = {name: f"now {name}"} if name in ("a", "b") else {}
        assert pictures.first([name]) == ({name: own[0][1]} if own else now)


def test_without_a_record_nothing_was_replaced(tmp_path: Path) -> None:
    pictures = PicturesOverTime(Workspace(tmp_path), "pool")
    assert pictures.replaced.equals(pa.array([], pa.string()))
    assert pictures.former("a") == [] and pictures.earlier("a", START) is None and pictures.first(["a"]) == {}


def test_a_picture_that_is_turned_is_another_picture_and_said(tmp_path: Path) -> None:
    workspace, coming = Workspace(tmp_path), tmp_path / "coming.parquet"
    rows = [{"image_id": name, "uri": name, "sha256": f"bytes of {name}", "rotation": turn} for name, turn in
            (("a", None), ("b", 0), ("c", 90), ("d", 90))]  # fmt: skip
    write_table(workspace.images("pool"), table_of(IMAGES, rows))
    turned = [row | {"rotation": turn} for row, turn in zip(rows, (0, 180, 90, None), strict=True)]
    write_table(coming, table_of(IMAGES, [*turned[:3], turned[3] | {"sha256": "other"}]))
    assert find_forgotten(workspace, "pool", coming, add=False, written_again=False).notes == [
        "1 image has other bytes under the same id", "1 image has another rotation",
    ]  # fmt: skip
    record_replaced(workspace, "pool", coming)
    coming.replace(workspace.images("pool"))
    pictures = PicturesOverTime(workspace, "pool")
    assert pictures.replaced.to_pylist() == ["b", "d"]
    assert pictures.former("b") == ["bytes of b"] and pictures.former("d") == ["bytes of d 90"]
    assert pictures.present("abd") == {"a": "bytes of a", "b": "bytes of b 180", "d": "other"}
