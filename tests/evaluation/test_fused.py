"""Re-scoring by the fused scorer: which pairs, in which order, on the whole benchmark, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.detectors import pair_geometry
from ndec_builder.evaluation.detectors.fused_rescoring import (
    best_rows,
    measure_pairs,
    own_sides,
    shipped_thresholds,
    with_scores,
)
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.model import DEFAULT_FIT, FusedModel, load_model, save_model

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


@pytest.fixture(scope="module")
def fused(small, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """A model by hand: the logit is 3 · local_correlation − 4 · query_outside, through the ReLUs by two units each."""
    backbone = load_backbone(MODEL)
    rng = np.random.default_rng(0)
    whitening = Whitening(np.zeros(backbone.dim, np.float32), rng.normal(size=(16, backbone.dim)).astype(np.float32))
    size = len(PAIR_FEATURES)
    first = np.zeros((2, size), np.float32)
    first[0, PAIR_FEATURES.index("local_correlation")] = first[1, PAIR_FEATURES.index("query_outside")] = 1
    layers = {
        "0.0.weight": first, "0.0.bias": np.zeros(2, np.float32),
        "0.1.weight": np.eye(2, dtype=np.float32), "0.1.bias": np.zeros(2, np.float32),
        "0.2.weight": np.array([[3, -4]], np.float32), "0.2.bias": np.zeros(1, np.float32),
    }  # fmt: skip
    background = np.zeros((8, 16), np.float16)
    scaling = np.zeros(size, np.float32), np.ones(size, np.float32)
    model = FusedModel(*scaling, layers, 1.0, 0.0, whitening, background)
    directory = tmp_path_factory.mktemp("runs") / "fused"
    facts = {"backbone": {"name": MODEL, "fingerprint": backbone.fingerprint}, "train_sha256": [], "train_groups": []}
    save_model(directory, model, facts)
    return directory


def test_the_best_of_each_query_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    query, reference = np.divmod(rng.permutation(20 * 9), 9)
    scores = np.round(rng.normal(size=180), 1)  # with ties
    found = best_rows(Predictions(query, reference, scores, ""), 3)
    expected = set()
    for q in range(20):
        own = sorted(np.flatnonzero(query == q), key=lambda i: (-scores[i], reference[i]))
        expected |= set(own[:3])
    assert set(found) == expected
    assert [(query[i], reference[i]) for i in found] == sorted((query[i], reference[i]) for i in expected)


def test_rescored_pairs_rank_above_all_others(small, fused: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = {"workspace": tmp_path, "manifest": small.manifest, "model": MODEL, "replicates": 100}
    plain = run(BenchmarkConfig(**config, name="plain"))
    report = run(
        BenchmarkConfig(
            **config, scorer="fused", fused_model=fused, rescored=2, rescored_within=2, workers=1, baseline=plain
        )
    )
    before, after = (
        [line.split(",") for line in (folder / "predictions.csv").read_text().splitlines()[1:]]
        for folder in (plain, report)
    )
    assert {(q, r) for q, r, _ in before} == {(q, r) for q, r, _ in after}
    rescored = [(q, r) for q, r, score in after if float(score) >= 0]
    queries = {q for q, _, _ in before}
    assert len(rescored) == 2 * len(queries)
    assert after[: len(rescored)] == [row for row in after if float(row[2]) >= 0]
    rest = {(q, r): float(s) for q, r, s in before}
    for q, r, score in after[len(rescored) :]:
        assert float(score) == pytest.approx(rest[q, r] - 3)
    metrics = json.loads((report / "metrics.json").read_text("utf-8"))
    assert "re-scored by the fused scorer" in metrics["protocol"]["search"]
    assert metrics["calibration"]["queries"] == len(queries)
    assert metrics["decisions"]["refused"] == "the fit has no thresholds"
    assert metrics["recovered"]["value"] is not None or metrics["uap"]["value"] is not None
    two = run(
        BenchmarkConfig(
            **config, scorer="fused", fused_model=fused, rescored=2, rescored_within=2, workers=2, name="two"
        )
    )
    assert (two / "predictions.csv").read_bytes() == (report / "predictions.csv").read_bytes()


@given(
    st.lists(st.floats(-1e300, 1e300, allow_nan=False), min_size=2, max_size=12), st.sampled_from([1e-3, 1.0, 100.0])
)
@settings(deadline=None)
def test_re_scored_pairs_lead_and_the_others_keep_their_order(values: list[float], scale: float) -> None:
    scores = np.array(values) * scale
    rows = np.arange(len(scores))
    chosen = rows[::2]
    found = with_scores(Predictions(rows, rows, scores, ""), chosen, np.linspace(0, 1, len(chosen))).scores
    rest = np.setdiff1d(rows, chosen)
    assert found[rest].max() < found[chosen].min() == 0
    for a in rest:
        for b in rest:
            if scores[a] > scores[b] and scores[a] - scores[b] > 1e-12:
                assert found[a] > found[b]
            if scores[a] == scores[b]:
                assert found[a] == found[b]


def test_scores_on_another_scale_give_the_same_list(small, fused: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [(q, r, round(0.9 - (5 * q + 3 * r) % 12 / 20, 3)) for q in range(3) for r in range(12)]
    orders = []
    for scale in (1, 100):
        file = tmp_path / f"x{scale}.csv"
        file.write_text("".join(f"q{q:02d},r{r:02d},{score * scale:g}\n" for q, r, score in rows))
        common = {"workspace": tmp_path, "manifest": small.manifest, "predictions": file, "replicates": 100}
        report = run(
            BenchmarkConfig(**common, scorer="fused", fused_model=fused, rescored=2, rescored_within=2, workers=1)
        )
        orders.append([line.split(",")[:2] for line in (report / "predictions.csv").read_text().splitlines()])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("cached", [False, True])
def test_pairs_with_an_image_that_cannot_be_read_are_not_re_scored(
    small, fused: Path, tmp_path: Path, cached: bool
) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(small.queries, tmp_path / "queries")
    (tmp_path / "p.csv").write_text("".join(f"q{q:02d},r{r:02d},{0.9 - r / 50}\n" for q in (3, 4) for r in (3, 4, 5)))
    settings = BenchmarkConfig(
        workspace=tmp_path, queries=tmp_path / "queries", references=small.references, replicates=100, workers=1,
        ground_truth=small.ground_truth, predictions=tmp_path / "p.csv", scorer="fused", fused_model=fused,
        max_reject_share=1, rescored_within=2, pictures=False,
    )  # fmt: skip
    broken = tmp_path / "queries" / "q03.png"
    if cached:  # the file is readable while it is embedded, not when the pair is measured
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pair_geometry, "load_picture", _unreadable("q03"))
            report = run(settings)
    else:
        broken.write_bytes(b"no image")
        report = run(settings)
    found = {tuple(line.split(",")[:2]): float(line.split(",")[2]) for line in
             (report / "predictions.csv").read_text().splitlines()[1:]}  # fmt: skip
    assert all(found[pair] >= 0 for pair in found if pair[0] == "q04")
    for r in (3, 4, 5):
        assert found["q03", f"r{r:02d}"] == pytest.approx(0.9 - r / 50 - 3)
    metrics = json.loads((report / "metrics.json").read_text("utf-8"))
    assert "3 pairs have an image that cannot be read, so not re-scored" in metrics["protocol"]["search"]
    assert metrics["calibration"]["queries"] == metrics["calibration"]["queries_without_probability"] == 1
    assert metrics["data"]["unusable_images"] == (0 if cached else 1)
    assert "1 query has no re-scored pair" in (report / "report.html").read_text("utf-8")


def _unreadable(name: str) -> Any:
    """`load_picture` that cannot read one file."""
    from ndec_builder.training.views import load_picture

    def load(uri: str, *rest: Any) -> Any:
        if Path(uri).stem == name:
            raise OSError("gone")
        return load_picture(uri, *rest)

    return load


def test_only_references_near_the_best_of_their_query_are_examined(small, fused: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data, model = from_manifest(small.manifest), load_model(fused)
    space = Workspace(tmp_path)
    sides = own_sides(space, data, model, 8, "cpu")
    cosines = sides[0].vectors.astype(np.float32) @ sides[1].vectors.astype(np.float32).T
    query, reference = (places.ravel() for places in np.indices(cosines.shape))
    predictions = Predictions(query, reference, cosines.ravel().astype(np.float64), "")
    chosen, _ = measure_pairs(space, data, predictions, model, sides, 3, Engine(workers=1), within=0.02)
    expected = [
        (q, r)
        for q, row in enumerate(cosines.tolist())
        for r in sorted(np.argsort(np.negative(row), kind="stable")[:3].tolist())
        if row[r] >= max(row) - 0.02
    ]
    assert list(zip(query[chosen].tolist(), reference[chosen].tolist(), strict=True)) == expected
    assert len(data.queries) <= len(expected) < 3 * len(data.queries)  # at least its best, not always all three


def test_it_refuses_what_it_was_fitted_on_and_half_a_command(small, fused: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    card = json.loads((fused / "fused.json").read_text("utf-8"))
    other = tmp_path / "leaky"
    other.mkdir()
    (other / "fused.safetensors").write_bytes((fused / "fused.safetensors").read_bytes())
    (other / "fused.json").write_text(json.dumps(card | {"train_groups": ["scene3"]}), "utf-8")
    config = {"workspace": tmp_path, "manifest": small.manifest, "model": MODEL, "scorer": "fused"}
    with pytest.raises(NdecError, match="would be meaningless"):
        run(BenchmarkConfig(**config, fused_model=other))
    changed = card | {"backbone": {**card["backbone"], "fingerprint": "0" * 64}}
    (other / "fused.json").write_text(json.dumps(changed), "utf-8")
    with pytest.raises(NdecError, match="weights or preprocessing changed"):
        run(BenchmarkConfig(**config, fused_model=other))
    with pytest.raises(UsageError, match="belongs to --scorer fused"):
        run(BenchmarkConfig(**config | {"scorer": "cosine"}, fused_model=fused))


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({}, ""),
        ({"model": "OTHER"}, "measured on the best pairs of efficientnet-lite0 alone"),
        ({"model": (MODEL, "OTHER")}, "measured on the best pairs of efficientnet-lite0 alone"),
        ({"checkpoint": Path("runs/asl")}, "measured on the best pairs of efficientnet-lite0 alone"),
        ({"test_size": (160, 224)}, "measured on the best pairs of efficientnet-lite0 alone"),
        ({"competition": False}, "measured with competition, all pairs, --shortlist global and --rescored 20"),
        ({"one_per_query": True}, "measured with competition, all pairs, --shortlist global and --rescored 20"),
        ({"rescored_within": 2.0}, "measured with --rescored-within 0.2"),
        ({"k": 5}, "measured with the 20 best pairs of each query, and --k 5 leaves fewer"),
        ({"k": 20}, ""),
        ({"rescored": 5}, "measured with competition, all pairs, --shortlist global and --rescored 20"),
        ({"shortlist": "both"}, "measured with competition, all pairs, --shortlist global and --rescored 20"),
    ],
)
def test_shipped_thresholds_are_refused_for_other_lists(
    fused: Path, tmp_path: Path, changed: dict[str, Any], refused: str
) -> None:
    (tmp_path / "other.pt").write_bytes(b"other weights")
    if names := changed.get("model"):
        names = (names,) if isinstance(names, str) else names
        changed = {"model": tuple(str(tmp_path / "other.pt") if name == "OTHER" else name for name in names)}
    model = load_model(fused)
    value = {"threshold": 0.5, "low": 0.4, "high": 0.6}
    how = {"rescored": 20, "rescored_within": 0.2, "shortlist": "global"}
    model.card["decision"] = {"thresholds": {"0.9": value}, "measured_on": "x", **how}
    config = BenchmarkConfig(**{"workspace": tmp_path, "manifest": tmp_path, "model": MODEL, **changed})
    found = shipped_thresholds(model, config)
    assert found is not None and found.values == {"0.9": value}
    assert found.refused.startswith(f"they were {refused}" if refused else "") and bool(found.refused) == bool(refused)


def test_thresholds_of_the_shipped_card_are_read(tmp_path: Path) -> None:
    config = BenchmarkConfig(workspace=tmp_path, manifest=tmp_path, model=MODEL, scorer="fused")
    found = shipped_thresholds(load_model(DEFAULT_FIT), config)
    assert found is not None and found.refused == "" and "0.9" in found.values
