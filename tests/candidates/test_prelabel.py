"""Pre-labels learnt from synthetic edits: they tell copies from neighbours, and say how sure they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ndec_builder.candidates.geometry.table import add_geometry
from ndec_builder.candidates.prelabel import run
from ndec_builder.candidates.settings import PrelabelConfig
from ndec_builder.candidates.synthetic import known_pairs, shard_works
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.schemas import CANDIDATES, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.edits.recipes import edit_image
from support.pictures import textured

pytestmark = pytest.mark.slow

SIZE = (160, 120)


@pytest.fixture
def mined(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """24 references; pool: light copies of the first 8, whole scenes that hold the next 8, unrelated ones."""
    from PIL import Image

    scenes = {f"r{i:02d}": textured(i, SIZE) for i in range(24)}
    wholes = {i: textured(i, (260, 190)) for i in range(8, 16)}
    scenes |= {f"r{i:02d}": whole.crop((40, 30, 200, 150)) for i, whole in wholes.items()}
    pool = {f"q{i:02d}": edit_image(scenes[f"r{i:02d}"], "light", np.random.default_rng(i)).image for i in range(8)}
    pool |= {f"q{i:02d}": whole for i, whole in wholes.items()}
    pool |= {f"q{i:02d}": textured(100 + i, SIZE) for i in range(16, 24)}
    bench.add("reference", scenes)
    bench.add("pool", pool)
    rows = [
        {"pair_id": f"p{i:02d}", "split": "test", "query_id": f"q{i:02d}", "reference_id": f"r{i:02d}", "score": 0.9,
         "rank": i + 1, "duplicate_of": "r07" if i == 7 else None}
        for i in range(24)
    ]  # fmt: skip
    table = add_geometry(
        bench.workspace, "test", table_of(CANDIDATES, rows), name="geometry.parquet", engine=Engine(workers=1)
    )
    write_table(bench.workspace.candidates("test") / "candidates.parquet", table)

    def described(*arguments: Any) -> np.ndarray:
        pictures = [Image.open(path).resize((12, 12)) for path in arguments[3]]
        small = [np.asarray(picture, np.float32).ravel() for picture in pictures]
        centred = np.stack([v - v.mean() for v in small])
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)

    monkeypatch.setattr(known_pairs, "_embed_pictures", described)
    return bench


def test_copies_wholes_and_strangers_are_told_apart(mined: Any) -> None:
    path = run(PrelabelConfig(mined.workspace.root, count=24))
    assert shard_works._described.cache_info().currsize == 0  # half a gigabyte, in the process of a demo
    rows = read_table(path).to_pylist()
    chance = [
        None if r["prelabel"] is None
        else r["prelabel_confidence"] if r["prelabel"] == "edited_copy" else 1 - r["prelabel_confidence"]
        for r in rows
    ]  # fmt: skip
    assert chance[7] is None and rows[7]["prelabel_confidence"] is None  # a duplicate, shown to nobody
    assert min(chance[:7]) > 0.5 > max(chance[8:])
    assert all(0.5 <= r["prelabel_confidence"] <= 1 for r in rows if r["prelabel"])
    report = read_json(mined.workspace.candidates("test") / "prelabel.json")
    assert report["auc"] > 0.85 and report["learnt_from"]["copy"] == 24 and report["learnt_from"]["reverse_crop"] == 12
    assert report["pairs"] == 24 and 0.1 < report["share_of_copies"] < 0.6
    assert not (mined.workspace.candidates("test") / "prelabel").exists()
    before = path.read_bytes()
    run(PrelabelConfig(mined.workspace.root, count=24))
    assert path.read_bytes() == before


def test_pairs_that_an_earlier_version_measured_are_named(mined: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(PrelabelConfig(mined.workspace.root, count=24))
    assert "earlier version" not in capsys.readouterr().err
    measured = mined.workspace.candidates("test") / "measured-geometry.parquet"
    write_table(measured, read_table(measured).slice(5))
    run(PrelabelConfig(mined.workspace.root, count=24))
    assert "5 pairs were measured by an earlier version of ndec" in capsys.readouterr().err
    pool = mined.workspace.images("pool")
    write_table(pool, read_table(pool).slice(1))  # an image is gone: its pair is not counted, nothing fails
    run(PrelabelConfig(mined.workspace.root, count=24))
    assert "pairs were measured by an earlier version of ndec" in capsys.readouterr().err


def test_bad_input(mined: Any) -> None:
    with pytest.raises(UsageError, match="at least 20"):
        run(PrelabelConfig(mined.workspace.root, count=3))
    (mined.workspace.candidates("test") / "geometry.parquet").unlink()
    with pytest.raises(NdecError, match="have no geometry"):
        run(PrelabelConfig(mined.workspace.root))
