"""Measure the decision thresholds of the fused scorer that comes with ndec, and write them into its card.

    python benchmarks/ship_thresholds.py WORKSPACE [--quick]

WORKSPACE holds a demo (`ndec demo`, seed 0), whose test queries the fit has not seen. The protocol is the default of
`ndec benchmark --scorer fused`. A threshold that `threshold_advice` does not advise is not written. --quick prints
them and writes nothing.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.decision import DECISION_PRECISIONS
from ndec_builder.evaluation.evaluate import evaluate_detector
from ndec_builder.evaluation.metrics.threshold_advice import advise
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.fused.model import DEFAULT_FIT, FUSED_CARD


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
    card = read_json(DEFAULT_FIT / FUSED_CARD)
    protocol = {"rescored": config.rescored, "rescored_within": config.rescored_within, "shortlist": config.shortlist}
    card["decision"] = {"thresholds": thresholds, "measured_on": measured_on, **protocol}
    if not given.quick:
        write_json(DEFAULT_FIT / FUSED_CARD, card)


if __name__ == "__main__":
    main()
