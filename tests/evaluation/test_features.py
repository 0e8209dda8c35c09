"""Where a detector's vectors come from: whitening of the workspace, of the manifest, or none; caches that never mix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.fingerprints import DECODE_VERSION
from ndec_builder.core.storage import write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.model_names import RESULT_VERSION, parse_model
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.evaluation.dataset import from_folders, from_manifest, pictures_of
from ndec_builder.evaluation.detectors.features import (
    Features,
    embed_images,
    embedder_from_checkpoint,
    embedder_from_model,
    join_ensemble,
)
from ndec_builder.evaluation.detectors.pooled_features import pool_features
from support.tiny_trunk import tiny_model

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


def test_norms_are_those_of_the_head_and_vectors_are_its_direction(small: Any) -> None:
    workspace, data = Workspace(small.workspace), from_manifest(small.manifest)
    detector = embedder_from_model(workspace, MODEL, (data.training, data.resolve), 32)  # type: ignore[arg-type]
    trunk = workspace, detector.backbone, detector.trunk
    pooled, usable, rejects = pool_features(*trunk, data.queries, data.resolve, 32)
    features = embed_images(workspace, detector, data.queries, data.resolve, 32)
    assert usable.all() and not rejects and features.places.tolist() == list(range(16))
    output = detector.head(pooled).astype(np.float64)
    assert features.norms == pytest.approx(np.sqrt((output**2).sum(axis=1)))
    expected = output / np.sqrt((output**2).sum(axis=1, keepdims=True))
    assert np.abs(features.vectors - expected).max() < 1e-3  # float16


def test_whitening_of_the_workspace_comes_first_and_only_for_its_own_weights(small: Any, tmp_path: Path) -> None:
    workspace, data = Workspace(tmp_path), from_folders(small.queries, small.references, small.ground_truth)
    assert "whitening that comes with ndec" in embedder_from_model(workspace, MODEL, None, 32).about
    backbone = load_backbone(MODEL)
    whitening = Whitening(np.zeros(backbone.dim, np.float32), np.eye(4, backbone.dim, dtype=np.float32))
    whitening.save(workspace.whitening(MODEL) / "whitening.npz")
    record = {"weights": backbone.weights, "role": "basic", "result_version": RESULT_VERSION}
    write_json(workspace.whitening(MODEL) / "run.json", record)
    found = embedder_from_model(workspace, MODEL, None, 32)
    assert found.about == f"{MODEL}, whitening of this workspace (basic images)"
    assert found.weights["whitening"] == whitening.fingerprint
    assert found.head(np.ones((2, backbone.dim), np.float32)).shape == (2, 4)
    write_json(workspace.whitening(MODEL) / "run.json", {**record, "weights": {"other": "0"}})
    assert "whitening that comes with ndec" in embedder_from_model(workspace, MODEL, None, 32).about
    assert len(data.queries) == 16


def test_a_whitening_of_another_input_size_is_not_used(tmp_path: Path) -> None:
    workspace, file = Workspace(tmp_path), tiny_model(tmp_path).removesuffix("@32")
    Whitening(np.zeros(24, np.float32), np.eye(4, 24, dtype=np.float32)).save(
        workspace.whitening(file) / "whitening.npz"
    )
    made = f"{file}@64"
    record = {"model_fingerprint": parse_model(made).fingerprint(), "role": "basic", "result_version": RESULT_VERSION}
    write_json(workspace.whitening(file) / "run.json", record)
    assert embedder_from_model(workspace, made, None, 32).about == f"{made}, whitening of this workspace (basic images)"
    assert embedder_from_model(workspace, f"{file}@32", None, 32).about == f"{file}@32, not whitened"


def test_a_trained_trunk_never_reads_the_features_of_the_untrained_one(
    small: Any, make_checkpoint: Callable[..., Path]
) -> None:
    data = from_manifest(small.manifest)
    tables = (data.queries, data.references)
    frozen = embedder_from_checkpoint(make_checkpoint("frozen"), tables)
    whole = embedder_from_checkpoint(make_checkpoint("whole", whole_network=True), tables)
    assert frozen.trunk == load_backbone(MODEL).fingerprint != whole.trunk


def test_nothing_usable(small: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    table = pa.table({"image_id": ["a"], "uri": [str(tmp_path / "a.png")], "sha256": [None], "group": [""]})
    with pytest.raises(NdecError, match=r"none of 1 image can be used; the first, a \(.*a\.png\): empty file"):
        embed_images(Workspace(tmp_path), embedder_from_model(Workspace(tmp_path), MODEL, None, 32), table, str, 32)


def test_an_ensemble_scores_the_mean_cosine_of_its_members() -> None:
    rng = np.random.default_rng(0)

    def member(rows: list[int], dim: int) -> Features:
        vectors = rng.normal(size=(len(rows), dim))
        unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        return Features(np.array(rows), unit, rng.uniform(0.5, 2, len(rows)), {})

    one, two = member([0, 1, 2, 4], 8), member([0, 2, 3, 4], 32)
    joined = join_ensemble([one, two])
    assert joined.places.tolist() == [0, 2, 4]
    wide = [m.vectors[np.isin(m.places, joined.places)].astype(float) for m in (one, two)]
    cosines = joined.vectors.astype(float) @ joined.vectors.astype(float).T
    assert cosines == pytest.approx((wide[0] @ wide[0].T + wide[1] @ wide[1].T) / 2, abs=2e-3)
    expected = np.sqrt(one.norms[[0, 2, 3]] * two.norms[[0, 1, 3]])
    assert joined.norms == pytest.approx(expected)
    assert join_ensemble([one]) is one


def test_several_test_sizes_are_averaged(small: Any, make_checkpoint: Callable[..., Path]) -> None:
    workspace, data = Workspace(small.workspace), from_manifest(small.manifest)
    detector = embedder_from_checkpoint(make_checkpoint("sizes"), (data.queries, data.references))
    common = (workspace, detector, data.queries, data.resolve, 32)
    alone = [embed_images(*common, (size,)) for size in (96, 224)]
    both, plain = embed_images(*common, (96, 224)), embed_images(*common)
    assert np.array_equal(plain.vectors, alone[1].vectors) and not np.array_equal(alone[0].vectors, alone[1].vectors)
    mean = sum(one.vectors.astype(float) for one in alone)
    assert both.vectors.astype(float) == pytest.approx(mean / np.linalg.norm(mean, axis=1, keepdims=True), abs=2e-3)
    assert both.norms == pytest.approx(np.sqrt(alone[0].norms * alone[1].norms))
    assert detector.backbone.size == 224  # the detector itself is left as it was


def test_pixels_of_formats_with_versions_depend_on_how_they_are_decoded() -> None:
    table = pa.table({"uri": ["a.JPG", "b.png", "c"], "sha256": ["1", "2", "3"]})
    jpeg, png, unknown = pictures_of(table, str)
    assert pictures_of(table.append_column("format", pa.array(["PNG", "JPEG", "BMP"])), str)[1:] == ["2", "3"]
    assert jpeg == "1"
    assert png == f"2 decoding {DECODE_VERSION}"
    assert unknown == f"3 decoding {DECODE_VERSION}"
