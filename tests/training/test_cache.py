"""The view cache: same features as one by one, reused, resumed, bad images set aside and taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ndec_builder.core.locks import is_locked
from ndec_builder.core.storage import read_table, sha256_file
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.training import view_cache
from ndec_builder.training.view_cache import CachedViews, cache_views
from ndec_builder.training.views import ViewMaker, view_kinds, view_maker
from support.pictures import write_scenes

VIEW_KINDS = view_kinds(5)


@pytest.fixture
def backbone(tiny: str) -> Backbone:
    return load_backbone(tiny)


def make(paths: list[Path], seed: int = 0) -> tuple[pa.Table, ViewMaker]:
    rows = [{"image_id": path.stem, "uri": str(path), "sha256": sha256_file(path)} for path in paths]
    return pa.Table.from_pylist(rows), view_maker(rows, str, 32, seed)


def build(root: Path, backbone: Backbone, images: pa.Table, maker: ViewMaker) -> CachedViews:
    return cache_views(root, backbone, images, maker, VIEW_KINDS, "off", 2)


@pytest.mark.slow
def test_features_and_scales_are_those_of_each_view(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_cache, "SHARD_IMAGES", 4)
    images, maker = make(write_scenes(tmp_path / "in", 10))
    cached = build(tmp_path / "cache", backbone, images, maker)
    assert cached.ids == images["image_id"].to_pylist() and cached.features.shape == (10, 5, 24)
    for row in range(10):
        for number, view in enumerate(maker.views(row, VIEW_KINDS)):
            with torch.inference_mode():
                alone = backbone(backbone.normalised(torch.from_numpy(view.pixels[None])))[0].numpy()
            np.testing.assert_allclose(cached.features[row, number], alone, rtol=2e-3, atol=1e-4)
            assert cached.content_share[row, number] == pytest.approx(view.content_share)
            assert cached.adds_content[row, number] == view.adds_content


@pytest.mark.slow
def test_a_second_run_reads_and_a_lost_part_is_made_again(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_cache, "SHARD_IMAGES", 4)
    images, maker = make(write_scenes(tmp_path / "in", 10))
    first = build(tmp_path / "cache", backbone, images, maker)
    described: list[int] = []
    real = view_cache.trunk_features
    monkeypatch.setattr(view_cache, "trunk_features", lambda *a: described.append(1) or real(*a))
    again = build(tmp_path / "cache", backbone, images, maker)
    assert not described and (again.features == first.features).all()
    (part,) = (tmp_path / "cache").glob("*/shard-00001.npy")
    before = part.read_bytes()
    part.unlink()
    build(tmp_path / "cache", backbone, images, maker)
    assert len(described) == -(-4 * 5 // view_cache.TRUNK_BATCH) and part.read_bytes() == before  # 4 images × 5 views


def test_other_seeds_or_images_have_their_own_cache(tmp_path: Path, backbone: Backbone) -> None:
    paths = write_scenes(tmp_path / "in", 3)
    marks = {build(tmp_path / "cache", backbone, *make(paths, seed)).fingerprint for seed in (0, 1)}
    marks.add(build(tmp_path / "cache", backbone, *make(paths[:2])).fingerprint)
    assert len(marks) == 3


@pytest.mark.slow
def test_bad_images_are_rejects_and_come_back(tmp_path: Path, backbone: Backbone) -> None:
    paths = write_scenes(tmp_path / "in", 5)
    images, maker = make(paths)
    whole = build(tmp_path / "whole", backbone, images, maker)
    good = paths[1].read_bytes(), paths[3].read_bytes()
    paths[1].write_bytes(good[0][:300])
    paths[3].unlink()
    cached = build(tmp_path / "cache", backbone, images, maker)
    assert cached.ids == ["scene-0000", "scene-0002", "scene-0004"] and cached.features.shape[0] == 3
    assert [row["image_id"] for row in cached.rejects] == ["scene-0001", "scene-0003"]
    assert "bytes have changed" in cached.rejects[0]["reason"] and "No such file" in cached.rejects[1]["reason"]
    paths[1].write_bytes(good[0])
    paths[3].write_bytes(good[1])
    restored = build(tmp_path / "cache", backbone, images, maker)
    assert restored.rejects == [] and (restored.features == whole.features).all()


def test_the_parts_record_the_operations(tmp_path: Path, backbone: Backbone) -> None:
    images, maker = make(write_scenes(tmp_path / "in", 2))
    build(tmp_path / "cache", backbone, images, maker)
    (path,) = (tmp_path / "cache").glob("*/shard-00000.parquet")
    rows = read_table(path).to_pylist()
    assert [row["recipe"] for row in rows] == list(VIEW_KINDS) * 2
    assert all('"operation": "crop"' in row["edits"] for row in rows if row["recipe"] == "crop")


def test_of_picks_rows_by_id(tmp_path: Path, backbone: Backbone) -> None:
    cached = build(tmp_path / "cache", backbone, *make(write_scenes(tmp_path / "in", 4)))
    part = cached.of(["scene-0003", "scene-0001"])
    assert (part.features == cached.features[[3, 1]]).all() and part.ids == ["scene-0003", "scene-0001"]


def test_views_that_two_recipes_share_are_made_by_one_run_at_a_time(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []

    def looked_at(directory: Path, *given: object) -> None:
        held.append(is_locked(directory))

    monkeypatch.setattr(view_cache, "_forget_if_readable", looked_at)
    build(tmp_path / "cache", backbone, *make(write_scenes(tmp_path / "in", 2)))
    (folder,) = (tmp_path / "cache").glob("[!.]*")
    assert held == [True] and not is_locked(folder)
