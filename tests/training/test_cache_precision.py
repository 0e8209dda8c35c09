"""Caches of descriptors name their precision: a workspace that moves to a processor without bfloat16 mixes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.candidates.synthetic.known_pairs import _embed_pictures
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import sha256_file, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.engines.precision import bf16_for, precision_of, stored_precision
from ndec_builder.embeddings.extract import extract
from ndec_builder.embeddings.preprocess import to_array
from ndec_builder.training.fused.measure import MeasureShard
from ndec_builder.training.fused.run import measured, prepare_training
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.view_cache import CachedViews, cache_views
from ndec_builder.training.views import view_kinds, view_maker
from support.pictures import scene, write_scenes
from support.tiny_trunk import allow_bfloat16, with_processor

Rows = dict[str, list[dict[str, Any]]]
PRECISIONS = ("float32", "bfloat16")
MOVES = [*itertools.product(PRECISIONS, PRECISIONS)]


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_bfloat16(monkeypatch)


def views(root: Path, tiny: str, paths: list[Path], bf16: str = "auto") -> CachedViews:
    rows = [{"image_id": path.stem, "uri": str(path), "sha256": sha256_file(path), "rotation": 0} for path in paths]
    kinds, maker = view_kinds(3), view_maker(rows, str, 32, 0)
    return cache_views(root, load_backbone(tiny), table_of(IMAGES, rows), maker, kinds, bf16, 1)


@pytest.mark.slow
def test_views_made_now_name_what_auto_means(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, found = write_scenes(tmp_path / "in", 3), {}
    for precision in PRECISIONS:
        with_processor(monkeypatch, precision)
        found[precision] = views(tmp_path / "cache", tiny, paths)
    one, two = found.values()
    assert one.fingerprint != two.fingerprint
    assert (one.features != two.features).any()
    assert views(tmp_path / "cache", tiny, paths, "off").fingerprint not in (one.fingerprint, two.fingerprint)


@pytest.mark.slow
@pytest.mark.parametrize(("made", "now"), MOVES)
def test_training_pairs_of_an_earlier_version_are_used_in_their_own_precision_only(
    made: str, now: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Rows,
    write_manifest: Callable[[Rows], Path],
) -> None:  # fmt: skip
    manifest = write_manifest(tables)

    def pairs(workspace: str) -> tuple[Path, list[bytes]]:
        config = FusedConfig(tmp_path / workspace, manifest, backbone=tiny, dim=4, views=2, copies=1, editor_copies=0,
                             rivals=0, workers=1)  # fmt: skip
        _, files = measured(config, prepare_training(config))
        return files[0].parent, [path.read_bytes() for path in files]

    with monkeypatch.context() as patched:
        with_processor(patched, made)
        patched.setattr(MeasureShard, "stored_precision", lambda self, trunk: made)
        before, _ = pairs("one")
    with_processor(monkeypatch, now)
    after, found = pairs("one")
    assert (after == before) == (made == now)
    assert found == pairs("two")[1]


@pytest.mark.parametrize("stored", PRECISIONS)
@pytest.mark.parametrize("here", PRECISIONS)
def test_prelabel_describes_its_pairs_in_the_precision_of_the_stored_vectors(
    stored: str, here: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_processor(monkeypatch, here)
    paths, workspace = write_scenes(tmp_path / "in", 4), Workspace(tmp_path)
    folder = workspace.embeddings("reference", tiny)
    write_json(folder / "run.json", {"layer": "pooled", "precision": stored})
    found = _embed_pictures(workspace, "reference", tiny, paths, tmp_path / "scratch", Engine(here=True))
    table = table_of(IMAGES, [{"image_id": path.stem, "uri": str(path), "rotation": 0} for path in paths])
    setting = "on" if stored == "bfloat16" else "off"
    expected = extract(load_backbone(tiny), table, str, bf16=setting).features
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_the_setting_for_a_precision_is_auto_where_that_gives_it(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(tiny)
    for here in PRECISIONS:
        with_processor(monkeypatch, here)
        assert precision_of("auto", backbone) == here
        assert bf16_for(here, backbone) == bf16_for(None, backbone) == "auto"
    with_processor(monkeypatch, "float32")
    assert bf16_for("bfloat16", backbone) == "on"
    with_processor(monkeypatch, "bfloat16")
    assert bf16_for("float32", backbone) == "off"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_of_stored_descriptors_is_recognised(
    precision: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, pictures = load_backbone(tiny), [scene(number) for number in range(6)]
    paths = write_scenes(tmp_path / "in", 6)
    table = table_of(IMAGES, [{"image_id": path.stem, "uri": str(path), "rotation": 0} for path in paths])
    found = extract(backbone, table, str, bf16="on" if precision == "bfloat16" else "off").features
    for picture, row in zip(pictures, found, strict=True):
        pixels = to_array(picture, 32).transpose(1, 2, 0)[None]
        assert stored_precision(backbone, pixels, row.astype(np.float16)[None]) == precision
