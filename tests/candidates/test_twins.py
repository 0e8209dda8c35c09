"""One picture several times in a role: annotators and datasets get one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ndec_builder.candidates.mine import run
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.candidates.twins import left_out, read_twins, twins_path
from ndec_builder.cli.assist.status import survey
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace
from support.pictures import scene


def save(path: Path, picture: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Six pool pictures, the first also as byte copy, resized and re-encoded; five references, one of them twice."""
    for number in range(6):
        save(tmp_path / "pool" / f"p{number}.png", scene(number, (240, 180)))
    original = tmp_path / "pool" / "p0.png"
    (tmp_path / "pool" / "copy.png").write_bytes(original.read_bytes())
    save(tmp_path / "pool" / "half.png", Image.open(original).resize((120, 90)))
    save(tmp_path / "pool" / "jpeg.jpg", Image.open(original), quality=60)
    for number in range(10, 15):
        save(tmp_path / "references" / f"r{number}.png", scene(number, (240, 180)))
    save(tmp_path / "references" / "z.png", scene(12, (240, 180)).resize((480, 360)))
    return tmp_path


def mined(folders: Path, **options: Any) -> Path:
    workspace = folders / "bench"
    return run(
        MineConfig(workspace, pool=folders / "pool", references=folders / "references", geometry=False, **options)
    )


@pytest.mark.slow
def test_each_picture_is_mined_once(folders: Path) -> None:
    directory = mined(folders, top=100, max_per_query=0, max_per_reference=0)
    table = read_table(directory / "candidates.parquet")
    assert set(table["query_id"].to_pylist()) == {"copy", *(f"p{number}" for number in range(1, 6))}
    assert set(table["reference_id"].to_pylist()) == {"r10", "r11", "r13", "r14", "z"}  # the larger one of two
    counts = read_json(directory / "run.json")["counts"]
    assert (counts["pool_twins"], counts["reference_twins"], counts["pairs"]) == (3, 1, 30)


@pytest.mark.slow
def test_the_table_names_the_representative_of_each_twin(folders: Path) -> None:
    mined(folders, top=3)
    workspace = Workspace(folders / "bench")
    table = read_table(twins_path(workspace, "pool"))
    assert table.to_pylist() == [
        {"image_id": "half", "representative": "copy", "same_bytes": False},
        {"image_id": "jpeg", "representative": "copy", "same_bytes": False},
        {"image_id": "p0", "representative": "copy", "same_bytes": True},
    ]
    assert read_twins(workspace, "reference") == {"r12": "z"}
    assert read_twins(workspace, "basic") == {}


@pytest.mark.slow
def test_twins_are_found_once(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ndec_builder.candidates import twins

    mined(folders, top=3)
    monkeypatch.setattr(twins, "check_pairs", None)  # comparing again would fail
    assert read_json(mined(folders, top=4) / "run.json")["counts"]["pool_twins"] == 3


@pytest.mark.slow
def test_what_is_said_of_twins_and_duplicates(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(folders / "references" / "same.png", scene(3, (240, 180)).resize((120, 90)))
    directory = mined(folders, top=6)
    said = " ".join(capsys.readouterr().err.split())
    assert "3 of 9 pool images not searched: 3 × same picture as another image of the role" in said
    assert said.count("same picture") == 2  # once for each role
    assert "1 pair set aside as a duplicate of its reference" in said
    assert read_json(directory / "run.json")["counts"]["duplicates"] == 1
    text = next(stage.text for stage in survey(folders / "bench") if stage.name == "candidates test")
    assert text.endswith("1 duplicate set aside")


def test_a_group_with_a_closed_image_is_left_out_as_a_whole() -> None:
    twins = {"b": "a", "c": "a", "e": "d"}
    assert left_out(twins, ["c", "x"]) == {"a", "b", "c", "e"}
    assert left_out(twins, []) == {"b", "c", "e"}
