"""Stored twins are about pictures: a row whose image was replaced or removed since does not count."""

from __future__ import annotations

import pytest

from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.candidates.twins import read_twins, twins_path
from ndec_builder.core.storage import read_json, read_table, write_json
from support.pictures import scene


@pytest.fixture
def twins(bench):
    """r2 is r1 at half the size, r4 has the bytes of r3."""
    pictures = {
        "r1": scene(1, (240, 180)),
        "r2": scene(1, (240, 180)).resize((120, 90)),
        "r3": scene(3),
        "r4": scene(3),
    }
    bench.add("reference", pictures)
    bench.add("pool", {f"p{n}": scene(20 + n) for n in range(3)})
    mine(MineConfig(bench.workspace.root, top=2, geometry=False))
    assert read_twins(bench.workspace, "reference") == {"r2": "r1", "r4": "r3"}
    return bench, pictures


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({"r2": scene(9)}, {"r4": "r3"}),
        ({"r1": scene(9)}, {"r4": "r3"}),
        ({"r3": scene(9), "r4": scene(8)}, {"r2": "r1"}),
    ],
)
def test_a_replaced_picture_is_no_twin(twins, changed, left):
    bench, pictures = twins
    bench.add("reference", pictures | changed)
    assert read_twins(bench.workspace, "reference") == left


def test_a_removed_picture_is_no_twin(twins):
    bench, pictures = twins
    bench.add("reference", {name: picture for name, picture in pictures.items() if name != "r3"})
    assert read_twins(bench.workspace, "reference") == {"r2": "r1"}


@pytest.mark.slow
def test_twins_of_an_earlier_version_count_and_get_their_pictures_with_the_next_mining(twins):
    bench, pictures = twins
    path = twins_path(bench.workspace, "reference").with_suffix(".json")
    old = {name: value for name, value in read_json(path).items() if name != "pictures"}
    write_json(path, old)
    assert read_twins(bench.workspace, "reference") == {"r2": "r1", "r4": "r3"}
    mine(MineConfig(bench.workspace.root, top=3, geometry=False))
    assert set(read_json(path)["pictures"]) == set(pictures)


@pytest.mark.slow
def test_a_picture_that_was_missing_is_compared_by_the_next_mining(bench, capsys):
    first = scene(1, (240, 180))
    bench.add("reference", {"r1": first, "r2": first.resize((120, 90)), "r3": scene(3)})
    bench.add("pool", {f"p{n}": scene(20 + n) for n in range(3)})
    path = bench.workspace.files("reference") / "r2.png"
    away = path.rename(path.with_name("away"))
    mine(MineConfig(bench.workspace.root, top=2, geometry=False))
    assert read_twins(bench.workspace, "reference") == {}
    assert "not compared, because a picture is missing" in " ".join(capsys.readouterr().err.split())
    away.rename(path)
    mine(MineConfig(bench.workspace.root, top=3, geometry=False))
    assert read_twins(bench.workspace, "reference") == {"r2": "r1"}


@pytest.mark.slow
def test_the_same_mining_is_done_again_when_a_picture_that_was_missing_is_back(bench, capsys):
    """p9 is r1 at half the size; without the file nobody knows, and the pair would be one for people."""
    first = scene(1, (240, 180))
    bench.add("reference", {"r1": first, "r2": scene(4), "r3": scene(3)})
    bench.add("pool", {"p9": first.resize((120, 90))} | {f"p{n}": scene(20 + n) for n in range(3)})
    config = MineConfig(bench.workspace.root, top=2, geometry=False)
    path = bench.workspace.files("pool") / "p9.png"
    away = path.rename(path.with_name("away"))

    def duplicates() -> set[str]:
        rows = read_table(mine(config) / "candidates.parquet").to_pylist()
        return {row["query_id"] for row in rows if row["duplicate_of"]}

    assert duplicates() == set()
    assert duplicates() == set() and "nothing to do" in capsys.readouterr().err  # it is still missing
    away.rename(path)
    assert duplicates() == {"p9"} and "can be compared now" in " ".join(capsys.readouterr().err.split())
    assert duplicates() == {"p9"} and "nothing to do" in capsys.readouterr().err
    assert not list((bench.workspace.root / "candidates").rglob("*not-compared*"))
