"""The numbers of a league, counted pair by pair; calibration; the gallery of disagreements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.detectors import score_direction
from ndec_builder.evaluation.detectors.score_direction import direction_problem
from ndec_builder.evaluation.evaluate import group_predictions
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.league.calibration import isotonic
from ndec_builder.league.disagreements import disagreements
from ndec_builder.league.measures import league_numbers
from ndec_builder.league.raw_predictions import read_raw

pytestmark = pytest.mark.slow


def test_scores_of_the_wrong_direction_are_said(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A csv of distances: small for the true pairs."""
    monkeypatch.setattr(score_direction, "_FEW", 5)  # this data has eight copies
    data = from_manifest(small.manifest)
    query, reference = np.divmod(np.arange(len(data.queries) * len(data.references)), len(data.references))
    true = np.isin(query * len(data.references) + reference, data.truth)
    distances = Predictions(query, reference, np.where(true, 0.1, 0.9 + reference / 1000), "")
    assert "look inverted" in str(direction_problem(data, distances))
    right = Predictions(query, reference, -distances.scores, "")
    assert direction_problem(data, right) is None


def test_a_csv_without_one_usable_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,1\n")
    with pytest.raises(NdecError, match=r"no row of .* \(1\) can be used: .*first: 'x'"):
        read_raw(path, {"q": 0}, {"r": 0})


def test_no_false_match_is_not_proof_that_there_are_none(small: Any) -> None:
    data = from_manifest(small.manifest)
    found = Predictions(np.array([0, 1]), np.array([0, 1]), np.array([0.1, 0.2]), "")
    numbers = league_numbers(data, group_predictions(data, found), {"default": 7.0}, 100, 0)
    assert numbers["default/false_all"] == {"value": 0.0, "low": None, "high": None}


def test_the_numbers_at_a_threshold_are_counts(small: Any) -> None:
    """Recall and false matches at a threshold, counted pair by pair."""
    data = from_manifest(small.manifest)
    rng = np.random.default_rng(0)
    query, reference = np.divmod(np.arange(len(data.queries) * len(data.references)), len(data.references))
    scores = rng.integers(0, 10, len(query)).astype(float)
    found = Predictions(query, reference, scores, "")
    numbers = league_numbers(data, group_predictions(data, found), {"default": 7.0}, 100, 0)
    above = scores >= 7
    true = np.isin(query * len(data.references) + reference, data.truth)
    assert numbers["default/recall"]["value"] == (above & true).sum() / len(data.truth)
    assert numbers["default/precision"]["value"] == (above & true).sum() / above.sum()
    for key, strata in (("all", (0, 1, 2)), ("without", (0,)), ("natural", (1,)), ("reverse_crop", (2,))):
        false = above & ~true & np.isin(data.stratum[query], strata)
        assert numbers[f"default/false_{key}"]["value"] == pytest.approx(1000 * false.sum() / len(data.references))


def test_recall_at_a_precision_that_is_never_reached_is_zero(small: Any) -> None:
    data = from_manifest(small.manifest)
    query = np.array([8, 9, 0])
    found = Predictions(query, query, np.array([3.0, 2.0, 1.0]), "")
    numbers = league_numbers(data, group_predictions(data, found), {}, 100, 0)
    assert numbers["all/recall_at_p99"]["value"] == 0 and numbers["all/recall_at_p90"]["value"] == 0


def test_the_isotonic_map_pools_what_is_out_of_order() -> None:
    points, probability = isotonic(np.array([1.0, 1, 2, 3]), np.array([True, False, False, True]))
    assert points.tolist() == [1, 2, 3]
    assert probability.tolist() == pytest.approx([1 / 3, 1 / 3, 1])  # (1 of 2) and (0 of 1) pool to 1 of 3


def test_the_gallery_shows_the_most_even_split_first(small: Any) -> None:
    data = from_manifest(small.manifest)
    one = {"query": np.array([0, 8]), "reference": np.array([0, 8])}
    found = {
        "a": Predictions(**one, scores=np.array([1.0, 1.0]), protocol=""),
        "b": Predictions(**one, scores=np.array([0.0, 1.0]), protocol=""),
        "c": Predictions(**one, scores=np.array([0.0, 0.0]), protocol=""),
        "d": Predictions(**one, scores=np.array([0.0, 0.0]), protocol=""),
    }
    shown = disagreements(data, found, dict.fromkeys(found, 0.5), 4, pictures=True)
    assert [exhibit.query_id for exhibit in shown] == ["q08", "q00"]
    assert shown[0].facts == ("true: no copy (query: hard negative, natural)", "say copy: a, b", "do not: c, d")
    assert shown[1].facts[0] == "true: copy"
