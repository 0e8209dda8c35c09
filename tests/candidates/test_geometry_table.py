"""Geometry of whole tables: the same rows for any workers and after a kill, nulls with reasons, joined by pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.candidates.geometry import table as geometry_table
from ndec_builder.candidates.geometry.fitting import fit_geometry
from ndec_builder.candidates.geometry.table import (
    MEASURED_COLUMNS,
    add_geometry,
    measure,
    read_geometry,
    report_unreadable,
    with_geometry,
)
from ndec_builder.core.decode import decode
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.schemas import CANDIDATES, GEOMETRY, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from support.pictures import textured

pytestmark = pytest.mark.slow

SIZE = (160, 120)


@pytest.fixture
def workspace(bench: Any) -> Workspace:
    """Six references, and pool pictures that are crops of them, unrelated, mirrored."""
    references = {f"r{i}": textured(i, SIZE) for i in range(6)}
    pool = {f"q{i}": textured(i, SIZE).crop((10, 10, 150, 110)) for i in range(4)}
    pool |= {"q4": textured(40, SIZE), "q5": textured(5, SIZE).transpose(0)}
    bench.add("reference", references)
    bench.add("pool", pool)
    return bench.workspace


def candidates(duplicate: str | None = None) -> Any:
    rows = [
        {"pair_id": f"p{i}", "split": "test", "query_id": f"q{i}", "reference_id": f"r{i}", "score": 0.9 - i / 100,
         "rank": i + 1, "duplicate_of": "r0" if f"p{i}" == duplicate else None}
        for i in range(6)
    ]  # fmt: skip
    return table_of(CANDIDATES, rows)


def test_every_shown_pair_is_measured_as_the_two_pictures_are(workspace: Workspace) -> None:
    table = add_geometry(
        workspace, "test", candidates(duplicate="p1"), name="geometry.parquet", engine=Engine(workers=1)
    )
    assert table.schema.equals(CANDIDATES) and table["pair_id"].to_pylist() == [f"p{i}" for i in range(6)]
    rows = {row["pair_id"]: row for row in table.to_pylist()}
    assert {rows["p1"][name] for name in MEASURED_COLUMNS} == {None}  # nobody is shown a duplicate
    assert rows["p4"]["inliers"] == 0 and rows["p4"]["query_inside"] is None
    geometry = {row["pair_id"]: row for row in read_geometry(workspace, "test").to_pylist()}
    assert set(geometry) == {"p0", "p2", "p3", "p4", "p5"}
    assert geometry["p5"]["mirrored"] and not geometry["p0"]["mirrored"]
    for pair in ("p0", "p5"):
        pictures = [
            np.asarray(decode((workspace.files(role) / f"{name}{pair[1]}.png").read_bytes()))
            for role, name in (("pool", "q"), ("reference", "r"))
        ]
        alone = fit_geometry(*pictures)
        assert alone.homography is not None
        np.testing.assert_array_equal(np.reshape(geometry[pair]["homography"], (3, 3)), alone.homography)
        for name in MEASURED_COLUMNS:
            value = getattr(alone, name)
            assert rows[pair][name] == (None if np.isnan(value) else pytest.approx(value, rel=1e-6))


def test_any_number_of_workers_and_shards_gives_the_same_rows(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = measure(workspace, "test", candidates(), tmp_path / "one", engine=Engine(workers=1))
    monkeypatch.setattr(geometry_table, "SHARD_SIZE", 2)
    two = measure(workspace, "test", candidates(), tmp_path / "two", engine=Engine(workers=2))
    assert one.equals(two) and one.schema.equals(GEOMETRY)
    assert not (tmp_path / "two").exists()  # the shards have done their duty


def test_a_killed_run_goes_on_where_it_was(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(workspace, "test", candidates(), tmp_path / "whole", engine=Engine(workers=1))
    monkeypatch.setattr(geometry_table, "SHARD_SIZE", 2)
    calls: list[str] = []
    real = geometry_table._row

    def stop_at_the_third(pair: dict[str, Any], look: Any) -> dict[str, Any]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(pair["pair_id"])
        return real(pair, look)

    monkeypatch.setattr(geometry_table, "_row", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        measure(workspace, "test", candidates(), tmp_path / "killed", engine=Engine(workers=1))
    monkeypatch.setattr(geometry_table, "_row", lambda pair, look: calls.append(pair["pair_id"]) or real(pair, look))
    assert measure(workspace, "test", candidates(), tmp_path / "killed", engine=Engine(workers=1)).equals(whole)
    assert calls == [f"p{i}" for i in range(6)]  # the first shard was not done again


def test_pictures_that_vanished_or_changed_are_rows_with_a_reason(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace.files("pool") / "q2.png").unlink()
    (workspace.files("reference") / "r3.png").write_bytes((workspace.files("reference") / "r4.png").read_bytes())
    table = add_geometry(workspace, "test", candidates(), name="geometry.parquet", engine=Engine(workers=1))
    geometry = {row["pair_id"]: row for row in read_geometry(workspace, "test").to_pylist()}
    assert "q2.png" in geometry["p2"]["unreadable"] and "changed since it was ingested" in geometry["p3"]["unreadable"]
    assert "2 pairs without geometry; the first: " in " ".join(capsys.readouterr().err.split())
    report_unreadable(workspace, "test")
    assert "2 pairs without geometry: a picture could not be read." in " ".join(capsys.readouterr().err.split())
    assert table["inliers"].to_pylist()[2:4] == [None, None] and table["inliers"].to_pylist()[0] > 8


def test_geometry_is_joined_by_pair_not_by_place() -> None:
    rows = table_of(GEOMETRY, [{"pair_id": "p5", "inliers": 5}, {"pair_id": "p0", "inliers": 50}])
    assert with_geometry(candidates(), rows)["inliers"].to_pylist() == [50, None, None, None, None, 5]
    assert with_geometry(candidates(), GEOMETRY.empty_table()).equals(candidates())


def test_pairs_that_were_measured_before_are_not_measured_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another `--top`: only new pairs are measured, and the table is the one that measuring everything gives."""
    measured: list[str] = []
    row = geometry_table._row
    monkeypatch.setattr(
        geometry_table, "_row", lambda pair, look: (measured.append(pair["pair_id"]), row(pair, look))[1]
    )
    table, scratch = candidates(), workspace.candidates("test") / "geometry"
    known = workspace.candidates("test") / geometry_table.MEASURED_FILE
    measure(workspace, "test", table.slice(0, 4), scratch, Engine(workers=1), known)
    assert sorted(measured) == ["p0", "p1", "p2", "p3"]
    measured.clear()
    larger = measure(workspace, "test", table, scratch, Engine(workers=1), known)
    assert sorted(measured) == ["p4", "p5"]
    measured.clear()
    smaller = measure(workspace, "test", table.slice(1, 2), scratch, Engine(workers=1), known)
    assert measured == []
    fresh = measure(workspace, "test", table, scratch, Engine(workers=1))
    assert larger.equals(fresh, check_metadata=True)
    files = [write_table(scratch.with_name(name), rows) for name, rows in (("a.parquet", larger), ("b.parquet", fresh))]
    assert files[0].read_bytes() == files[1].read_bytes()  # a killed run continues to the same bytes
    assert smaller.equals(measure(workspace, "test", table.slice(1, 2), scratch, Engine(workers=1)))


def test_a_replaced_picture_is_measured_again(
    workspace: Workspace, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    row = geometry_table._row
    known = workspace.candidates("test") / geometry_table.MEASURED_FILE
    scratch = workspace.candidates("test") / "geometry"
    measure(workspace, "test", candidates(), scratch, Engine(workers=1), known)
    references = {f"r{i}": textured(i, SIZE) for i in range(6)} | {"r2": textured(77, SIZE)}
    bench.add("reference", references)
    monkeypatch.setattr(
        geometry_table, "_row", lambda pair, look: (measured.append(pair["pair_id"]), row(pair, look))[1]
    )
    again = measure(workspace, "test", candidates(), scratch, Engine(workers=1), known)
    assert measured == ["p2"] and again.equals(measure(workspace, "test", candidates(), scratch, Engine(workers=1)))
