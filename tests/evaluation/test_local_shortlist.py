"""The second shortlist: codes of keypoints, votes of their neighbours, and pairs that enter the list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from ndec_builder.candidates.geometry.keypoints import MIRROR_ORDER, describe_picture
from ndec_builder.candidates.search import local_index
from ndec_builder.candidates.search.local_index import LocalIndex, keypoint_codes, spread_rows
from ndec_builder.core.errors import UsageError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_folders
from ndec_builder.evaluation.detectors.local_shortlist import local_pairs, with_local_pairs
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.pictures import scene

RNG = np.random.default_rng(0)
BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return BITS[one[:, None] ^ other[None]].sum(axis=2)


def plain_votes(query: np.ndarray, codes: np.ndarray, counts: list[int]) -> list[float]:
    owner = [r for r, count in enumerate(counts) for _ in range(count)]
    votes = [0.0] * len(counts)
    for row in distance(query, codes):
        near = sorted(range(len(codes)), key=lambda i: row[i])[:10]
        last, best = row[near[-1]], dict[int, float]()
        for i in near:
            best[owner[i]] = max(best.get(owner[i], 0.0), (last - row[i]) / max(last, 1))
        for r, vote in best.items():
            votes[r] += vote
    return votes


def test_close_descriptors_have_close_codes_and_others_do_not() -> None:
    one = RNG.integers(0, 200, (50, 128)).astype(np.float32)
    near, far = np.clip(one + RNG.integers(-9, 10, one.shape), 0, 255), RNG.integers(0, 200, one.shape)
    codes = keypoint_codes(one)
    assert codes.shape == (50, 16) and np.diag(distance(codes, keypoint_codes(near))).mean() < 20
    assert np.diag(distance(codes, keypoint_codes(far.astype(np.float32)))).mean() == pytest.approx(64, abs=6)


def test_codes_do_not_depend_on_the_batch() -> None:
    rows = RNG.integers(0, 256, (300, 128)).astype(np.float32)
    assert np.array_equal(keypoint_codes(rows), np.concatenate([keypoint_codes(row[None]) for row in rows]))


def test_votes_are_those_of_a_plain_loop() -> None:
    codes, counts = RNG.integers(0, 256, (60, 16), dtype=np.uint8), [20, 0, 25, 15]
    query = codes[[3, 5, 30]] ^ np.array([1] + [0] * 15, np.uint8)
    expected = plain_votes(query, codes, counts)
    found = LocalIndex(codes, np.array(counts))
    # neighbours at equal distances may differ at the cut, and then they vote with nothing
    rows, votes = next(found._votes([query]))
    assert dict(zip(rows.tolist(), votes.tolist(), strict=True)) == pytest.approx(
        {row: value for row, value in enumerate(expected) if row in rows or value}
    )
    assert found.best([[query]], 3)[0].tolist()[:2] == np.argsort(-np.array(expected), kind="stable")[:2].tolist()


@pytest.mark.slow
def test_a_large_index_finds_the_same_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, counts = RNG.integers(0, 256, (4000, 16), dtype=np.uint8), np.full(40, 100)
    query = codes[1700:1800] ^ (RNG.random((100, 16)) < 0.1).astype(np.uint8)
    assert LocalIndex(codes, counts).best([[query]], 1)[0].tolist() == [17]
    monkeypatch.setattr(local_index, "FLAT_ROWS", 100)
    assert LocalIndex(codes, counts).best([[query]], 1)[0].tolist() == [17]


def test_nothing_to_search_for_gives_no_reference() -> None:
    nothing, some = np.zeros((0, 16), np.uint8), RNG.integers(0, 256, (30, 16), dtype=np.uint8)
    assert [rows.size for rows in LocalIndex(nothing, np.zeros(3, np.int64)).best([[some], [nothing]], 2)] == [0, 0]
    index = LocalIndex(some, np.array([30]))
    assert [rows.size for rows in index.best([[nothing], [], [some]], 2)] == [0, 0, 1]


def test_queries_searched_together_find_what_each_finds_alone() -> None:
    codes, counts = RNG.integers(0, 256, (300, 16), dtype=np.uint8), np.array([100, 0, 120, 80])
    queries = [[RNG.integers(0, 256, (n, 16), dtype=np.uint8) for n in sizes] for sizes in ((5, 7), (0, 3), (9,))]
    index = LocalIndex(codes, counts)
    together = [rows.tolist() for rows in index.best(queries, 3)]
    assert together == [index.best([query], 3)[0].tolist() for query in queries]


def test_rows_are_spread_evenly() -> None:
    assert spread_rows(5, 9).tolist() == [0, 1, 2, 3, 4] and spread_rows(0, 9).size == 0
    assert spread_rows(100, 4).tolist() == [0, 33, 66, 99]


def test_a_mirrored_picture_has_the_codes_of_the_mirrored_order() -> None:
    picture = scene(3, (200, 150))
    plain, mirrored = (describe_picture(np.asarray(one)).descriptors for one in (picture, ImageOps.mirror(picture)))
    found = distance(keypoint_codes(plain[:, MIRROR_ORDER]), keypoint_codes(mirrored)).min(axis=1)
    assert np.median(found) < 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Queries: a small reference on another picture, a mirrored one, a plain colour and a tiny picture."""
    root = tmp_path_factory.mktemp("local")
    small = scene(50, (400, 300))
    small.paste(scene(2, (240, 180)).resize((180, 135)), (40, 60))
    pictures = {
        "queries/a": small,
        "queries/b": ImageOps.mirror(scene(4, (240, 180))),
        "queries/c": Image.new("RGB", (200, 150), (90, 120, 30)),
        "queries/d": scene(5, (40, 30)),
        "references/plain": Image.new("RGB", (200, 150), (9, 9, 9)),
        **{f"references/r{i}": scene(i, (240, 180)) for i in range(8)},
    }
    for name, picture in pictures.items():
        (root / name).parent.mkdir(exist_ok=True)
        picture.save(root / f"{name}.png")
    (root / "truth.csv").write_text("a,r2\nb,r4\n")
    return from_folders(root / "queries", root / "references", root / "truth.csv")


@pytest.mark.slow
def test_a_small_part_and_a_mirrored_picture_are_found(folders: Dataset, tmp_path: Path) -> None:
    query, reference = local_pairs(Workspace(tmp_path), folders, 1, Engine(workers=1))
    found = {(folders.query_ids[q], folders.reference_ids[r]) for q, r in zip(query, reference, strict=True)}
    assert {("a", "r2"), ("b", "r4")} <= found
    assert "c" not in {q for q, _ in found} and "plain" not in {r for _, r in found}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: scene(2).save(path)], ids=["missing", "another picture"])
def test_a_reference_that_could_not_be_read_is_tried_again(
    folders: Dataset, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    row = folders.reference_ids.index("r2")
    path = Path(folders.references["uri"][row].as_py())
    content = path.read_bytes()
    try:
        damage(path)
        assert row not in local_pairs(Workspace(tmp_path), folders, 1, Engine(workers=1))[1]
        assert "1 image without local features: the file is missing" in capsys.readouterr().err
    finally:
        path.write_bytes(content)
    query, reference = local_pairs(Workspace(tmp_path), folders, 1, Engine(workers=1))
    assert (folders.query_ids.index("a"), row) in zip(query, reference, strict=True)


def test_references_left_out_are_not_found(folders: Dataset, tmp_path: Path) -> None:
    out = replace(folders, dropped=np.array([name == "r2" for name in folders.reference_ids]))
    _, reference = local_pairs(Workspace(tmp_path), out, 3, Engine(workers=1))
    assert folders.reference_ids.index("r2") not in reference


def test_pairs_that_the_search_lacks_enter_the_list() -> None:
    found = Predictions(np.array([0, 1]), np.array([2, 3]), np.array([0.9, 0.4]), "how")
    longer, places = with_local_pairs(found, np.array([0, 0, 1]), np.array([2, 1, 0]), 5)
    rows = set(zip(longer.query.tolist(), longer.reference.tolist(), longer.scores.tolist(), strict=True))
    assert rows == {(0, 2, 0.9), (1, 3, 0.4), (0, 1, 0.0), (1, 0, 0.0)}
    assert sorted(longer.pairs(5)[places].tolist()) == [1, 2, 5]
    assert longer.best(2).scores.tolist() == [0.9, 0.4]


def test_the_shortlist_is_part_of_the_settings(tmp_path: Path) -> None:
    config: dict[str, Any] = {"workspace": tmp_path, "manifest": tmp_path, "model": "m"}
    with pytest.raises(UsageError, match="shortlist is 'all'; it must be"):
        BenchmarkConfig(**config, shortlist="all")
