"""References that show the same picture: found, reported, and counted or dropped as asked; numbers by plain loops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation import twins as twins_module
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.dataset import from_folders
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.pictures import scene

TWINNED = {"b0": "r0", "b1": "r1", "b2": "r2"}  # twin → the reference of the ground truth
TRUTH = {f"q{i}": f"r{i}" for i in range(8)}


@pytest.fixture
def twinned(tmp_path: Path) -> Path:
    """8 queries, 20 references and byte copies of 3 of them; every detector finds both twins of a copy."""
    for i in range(20):
        path = tmp_path / "references" / f"r{i}.png"
        path.parent.mkdir(exist_ok=True)
        scene(i, (64, 48)).save(path)
    for twin, original in TWINNED.items():
        shutil.copy(tmp_path / "references" / f"{original}.png", tmp_path / "references" / f"{twin}.png")
    (tmp_path / "queries").mkdir()
    for i in range(8):
        scene(i, (64, 48)).resize((48, 36)).save(tmp_path / "queries" / f"q{i}.png")
    (tmp_path / "truth.csv").write_text("".join(f"{q},{r}\n" for q, r in TRUTH.items()))
    rows = [(f"q{i}", f"r{i}", 0.9 - i / 20) for i in range(8)] + [
        (f"q{i}", f"r{i + 9}", 0.75 - i / 20) for i in range(8)
    ]
    rows += [(f"q{i}", f"b{i}", 0.91 - i / 20) for i in range(3)]
    (tmp_path / "p.csv").write_text("".join(f"{q},{r},{score}\n" for q, r, score in rows))
    return tmp_path


def config(folder: Path, **more: Any) -> BenchmarkConfig:
    folders = {name: folder / name for name in ("queries", "references")}
    return BenchmarkConfig(workspace=folder, ground_truth=folder / "truth.csv", replicates=100, **folders, **more)


def plain_uap(folder: Path, truth: set[tuple[str, str]], without: set[str] = frozenset()) -> float:
    rows = [line.split(",") for line in (folder / "p.csv").read_text().split()]
    rows = sorted(
        ((float(s), q, r) for q, r, s in rows if r not in without), key=lambda row: (-row[0], row[1:] in truth)
    )
    hits = [row[1:] in truth for row in rows]
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / len(truth)


@pytest.mark.slow
@pytest.mark.parametrize("how", [None, "match", "drop"])
def test_the_numbers_are_those_of_a_plain_loop(
    twinned: Path, how: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = json.loads((run(config(twinned, predictions=twinned / "p.csv", twins=how)) / "metrics.json").read_text())
    truth = set(TRUTH.items())
    more = {(f"q{i}", f"b{i}") for i in range(3)}
    expected = {
        None: plain_uap(twinned, truth),
        "match": plain_uap(twinned, truth | more),
        "drop": plain_uap(twinned, truth, set(TWINNED)),
    }
    assert metrics["uap"]["value"] == pytest.approx(expected[how])
    assert metrics["n"] == (11 if how == "match" else 8)
    assert metrics["data"]["references"] == (20 if how == "drop" else 23)
    assert expected[None] < expected["drop"]
    assert "3 of 8 ground-truth pairs" in capsys.readouterr().err
    assert ("--twins drop" in metrics["twins"]) == (how is None)


@pytest.mark.slow
def test_without_twins_nothing_is_said(twinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for twin in TWINNED:
        (twinned / "references" / f"{twin}.png").unlink()
    (twinned / "p.csv").write_text("q0,r0,0.5\n")
    metrics = json.loads((run(config(twinned, predictions=twinned / "p.csv")) / "metrics.json").read_text())
    assert "twins" not in metrics and "same picture" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_re_encoded_and_a_resized_reference_are_found_by_their_pictures(twinned: Path) -> None:
    references = twinned / "references"
    for twin in TWINNED:
        (references / f"{twin}.png").unlink()
    Image.open(references / "r3.png").save(references / "jpeg.jpg", quality=80)
    Image.open(references / "r4.png").resize((128, 96), Image.Resampling.BICUBIC).save(references / "large.png")
    report = run(config(twinned, model="efficientnet-lite0", twins="drop", k=3))
    text = json.loads((report / "metrics.json").read_text())["twins"]
    assert "4 references show the same picture as another one (2 groups, first: jpeg = r3)" in text
    rows = [line.split(",") for line in (report / "predictions.csv").read_text().split()[1:]]
    assert not {"jpeg", "large"} & {r for _, r, _ in rows}
    assert all(sum(q == query for q, _, _ in rows) == 3 for query in TRUTH)  # k references, although two were dropped


def test_a_reference_that_was_missing_is_compared_again(twinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references = twinned / "references"
    Image.open(references / "r3.png").save(references / "r3-jpeg.jpg", quality=80)
    dataset = from_folders(twinned / "queries", references, twinned / "truth.csv")
    rows = [dataset.reference_ids.index(name) for name in ("r3", "r3-jpeg")]
    vectors = np.eye(24, dtype=np.float16)
    vectors[rows[1]] = vectors[rows[0]]
    known = np.arange(24), vectors
    away = (references / "r3-jpeg.jpg").rename(references / "away")
    assert twins_module._equal_pictures(Workspace(twinned), dataset, known) == []
    assert "1 pair was not compared" in capsys.readouterr().err
    away.rename(references / "r3-jpeg.jpg")
    for _ in range(2):  # compared, then from the cache
        assert twins_module._equal_pictures(Workspace(twinned), dataset, known) == [tuple(rows)]
