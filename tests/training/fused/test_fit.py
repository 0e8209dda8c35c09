"""Fitting on made-up features: what is learnt, that folds keep groups apart, calibration and AUC by other routes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ndec_builder.core.errors import UsageError
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.fit import PairTable, auc_against, calibrate, fit_fused, fit_networks, group_folds
from ndec_builder.training.fused.model import FusedModel, load_model, save_model
from ndec_builder.training.fused.settings import FusedConfig

WHITENING = Whitening(np.zeros(4, np.float32), np.eye(3, 4, dtype=np.float32))
BACKGROUND = np.zeros((2, 3), np.float16)


@pytest.fixture
def config(tmp_path: object) -> FusedConfig:
    return FusedConfig(tmp_path, tmp_path, folds=3, networks=2, hidden=8, epochs=60)  # type: ignore[arg-type]


def table(count: int, seed: int) -> PairTable:
    """Copies have a high local_correlation; reverse crops are told by query_outside; nothing else matters."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, len(PAIR_FEATURES))).astype(np.float32)
    kind = rng.choice(["copy", "hard", "reverse"], count)
    rows[:, PAIR_FEATURES.index("local_correlation")] += np.where(kind == "hard", -3, 0)
    rows[:, PAIR_FEATURES.index("query_outside")] += np.where(kind == "reverse", 3, 0)
    groups = np.array([f"g{i // 3}" for i in range(count)])
    return PairTable(rows, kind == "copy", np.ones(count), kind, groups)


@pytest.mark.slow
def test_the_model_learns_what_tells_copies_apart_and_says_which_feature(config: FusedConfig) -> None:
    train, other = table(900, 0), table(600, 1)
    model, figures = fit_fused(train, WHITENING, BACKGROUND, config)
    assert roc_auc_score(other.is_copy, model.logits(other.features)) > 0.92
    lost = figures["auc_lost_when_shuffled"]
    assert lost["local_correlation"]["hard"] > 0.2 > 2 * abs(lost["local_correlation"]["reverse"])
    assert lost["query_outside"]["reverse"] > 0.2
    assert abs(lost["shift"]["hard"]) < 0.05
    predicted = model.probability(other.features)
    for low, high in ((0.0, 0.2), (0.8, 1.01)):
        there = (predicted >= low) & (predicted < high)
        assert other.is_copy[there].mean() == pytest.approx(predicted[there].mean(), abs=0.12)


@pytest.mark.slow
def test_the_same_fit_gives_the_same_bytes_and_reads_back(config: FusedConfig, tmp_path: object) -> None:
    train = table(200, 0)
    written = []
    for name in ("a", "b"):
        model, _ = fit_fused(train, WHITENING, BACKGROUND, config)
        facts = {"train_sha256": [], "train_groups": [], "fingerprint": "f"}
        written.append(save_model(tmp_path / name, model, facts).read_bytes())  # type: ignore[operator]
    assert written[0] == written[1]
    again = load_model(tmp_path / "a")  # type: ignore[operator]
    np.testing.assert_array_equal(again.logits(train.features), model.logits(train.features))


def test_logits_are_those_of_torch_and_of_any_batch(config: FusedConfig) -> None:
    import torch

    train = table(120, 2)
    model, _ = fit_fused(train, WHITENING, BACKGROUND, config)
    rows = torch.from_numpy(np.clip((train.features - model.mean) / model.std, -5, 5)).double()
    total = torch.zeros(len(rows), dtype=torch.float64)
    for network in range(2):
        values = rows
        for layer in range(3):
            names = (f"{network}.{layer}.weight", f"{network}.{layer}.bias")
            values = torch.nn.functional.linear(values, *(torch.from_numpy(model.layers[n]).double() for n in names))
            values = torch.relu(values) if layer < 2 else values
        total += values[:, 0]
    np.testing.assert_allclose(model.logits(train.features), model.slope * total.numpy() / 2 + model.offset, rtol=1e-9)
    one_by_one = np.concatenate([model.logits(train.features[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(one_by_one, model.logits(train.features)[:20])


def test_a_group_is_in_one_fold_only() -> None:
    groups = np.array([f"g{i % 40}" for i in range(400)])
    fold = group_folds(groups, 5, 0)
    assert all(len(set(fold[groups == name])) == 1 for name in set(groups))
    assert set(fold) == set(range(5))


def test_auc_and_calibration_against_scikit_learn() -> None:
    train = table(500, 3)
    rng = np.random.default_rng(0)
    logits = np.round(train.is_copy * 1.5 + rng.normal(size=500), 1)  # with ties
    chosen = train.is_copy | (train.kind == "hard")
    assert auc_against(logits, train, "hard") == pytest.approx(roc_auc_score(train.is_copy[chosen], logits[chosen]))
    slope, offset = calibrate(logits, train.is_copy, train.weight)
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(logits[:, None], train.is_copy)
    assert (slope, offset) == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), rel=1e-3)


def test_a_negative_slope_is_not_believed() -> None:
    logits = np.linspace(-2, 2, 50)
    assert calibrate(logits, logits < 0, np.ones(50)) == (1.0, 0.0)


@pytest.mark.slow
def test_the_model_type_is_frozen(config: FusedConfig) -> None:
    model, _ = fit_fused(table(60, 0), WHITENING, BACKGROUND, config)
    assert isinstance(model, FusedModel)
    with pytest.raises(AttributeError):
        model.slope = 2.0  # type: ignore[misc]


def test_a_feature_left_out_changes_no_logit_and_an_unknown_one_is_named(config: FusedConfig) -> None:
    train = table(300, 0)
    model = fit_networks(train, WHITENING, BACKGROUND, replace(config, left_out=("local_correlation",)))
    moved = train.features.copy()
    moved[:, PAIR_FEATURES.index("local_correlation")] += 3
    np.testing.assert_array_equal(model.logits(moved), model.logits(train.features))
    with pytest.raises(UsageError, match=r"'seem'.*seam"):
        fit_networks(train, WHITENING, BACKGROUND, replace(config, left_out=("seem",)))
