"""Calibrate the fused scorer that comes with ndec, measure its decision thresholds, and write both into its card.

    python benchmarks/ship_thresholds.py WORKSPACE [--quick]

WORKSPACE holds a demo (`ndec demo`, seed 0), whose test queries the fit has not seen. The protocol is the default of
`ndec benchmark --scorer fused`. Slope and offset of the logits are those with the least log loss of the competing
pairs of the half `tuned`; the other half tells whether the probabilities hold. A threshold that `threshold_advice` does
not advise is not written. --quick prints all and writes nothing.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from ndec_builder.core.executor.base import Engine
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.decision import DECISION_PRECISIONS
from ndec_builder.evaluation.detectors.fused_rescoring import measure_pairs, own_sides, probabilities
from ndec_builder.evaluation.detectors.scoring import score
from ndec_builder.evaluation.evaluate import evaluate_detector
from ndec_builder.evaluation.halves import restricted
from ndec_builder.evaluation.metrics.threshold_advice import advise
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.fused.model import DEFAULT_FIT, FUSED_CARD, FusedModel, load_model


def calibrated(workspace: Path, config: BenchmarkConfig, model: FusedModel) -> FusedModel:
    """The model with the slope and offset of the least log loss over the competing pairs of the tuned half."""
    space = Workspace(workspace)
    data = restricted(from_manifest(config.manifest), "tuned")  # type: ignore[arg-type]
    listed = score(replace(config, scorer="cosine"), space, data).predictions
    sides = own_sides(space, data, model, 8, "cpu")
    chosen, rows = measure_pairs(space, data, listed, model, sides, config.rescored, Engine())
    is_copy = np.isin(listed.pairs(len(data.references))[chosen], data.truth)

    def loss(change: np.ndarray) -> float:
        own = replace(model, slope=model.slope * np.exp(change[0]), offset=model.offset + change[1])
        found = np.clip(probabilities(data, listed, own, sides[1], chosen, rows), 1e-6, 1 - 1e-6)
        return float(-np.log(np.where(is_copy, found, 1 - found)).mean())

    change = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-6}).x
    return replace(model, slope=float(model.slope * np.exp(change[0])), offset=float(model.offset + change[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    manifest = given.workspace / "manifests" / "demo-1.0.0"
    data = from_manifest(manifest)
    config = BenchmarkConfig(
        workspace=given.workspace, manifest=manifest, model="efficientnet-lite0", scorer="fused", device="cpu"
    )
    card = read_json(DEFAULT_FIT / FUSED_CARD)
    fitted = calibrated(given.workspace, config, load_model(DEFAULT_FIT))
    card["slope"], card["offset"] = fitted.slope, fitted.offset
    print(f"slope {card['slope']:.3f}, offset {card['offset']:.3f}")
    if not given.quick:
        write_json(DEFAULT_FIT / FUSED_CARD, card)
    evaluation = evaluate_detector(config, Workspace(given.workspace), data).evaluation
    groups = int(data.query_group.max()) + 1
    thresholds = {}
    for target in DECISION_PRECISIONS:
        found = advise(evaluation.final, evaluation.truth_group, target, groups, 0)
        print(found["advice"])
        if found["advice"].startswith("for precision"):
            thresholds[f"{target:g}"] = {
                "threshold": found["threshold"], "low": found["threshold_low"], "high": found["threshold_high"],
                "precision_elsewhere": found["precision_elsewhere"]["value"],
                "recall_elsewhere": found["recall_elsewhere"]["value"],
            }  # fmt: skip
    kinds = Counter(data.kinds)
    measured_on = (
        f"the test queries of the demo, {kinds['edited_copy']} copies and {kinds['hard_negative']} hard negatives in "
        f"{groups} groups, labels from known truth"
    )
    protocol = {"rescored": config.rescored, "rescored_within": config.rescored_within, "shortlist": config.shortlist}
    card["decision"] = {"thresholds": thresholds, "measured_on": measured_on, **protocol}
    if not given.quick:
        write_json(DEFAULT_FIT / FUSED_CARD, card)


if __name__ == "__main__":
    main()
