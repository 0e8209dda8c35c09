"""Train the complete network by one recipe and one seed, compared with the same recipe and a frozen trunk.

    python benchmarks/whole_network.py --workspace DIR --manifest DIR [--recipe asl] [--steps 80] [--quick]

A few minutes on a CPU only show that the mode works: the paper trains 200,000 steps. A killed run continues at its last
state. Writes benchmarks/results/whole_network.md; with --quick runs 3 steps and only prints.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from asl_study import cell, restricted
from machine import machine, write_result

from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.evaluate import evaluate_detector
from ndec_builder.evaluation.metrics.bootstrap import intervals
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training import train
from ndec_builder.training.settings import TrainConfig

KEYS = ("uap_before_filter", "uap", "precision_at_n", "precision_after_filter", "tp_kept", "fp_kept", "filter_auc")
HEAD = ("μAP %", "with filter", "P@N %", "precision after filter %", "TP kept %", "FP kept %", "AUC")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--recipe", default="asl")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="3 steps, 100 replicates, nothing written")
    given = parser.parse_args()
    steps, replicates = (3, 100) if given.quick else (given.steps, given.replicates)
    common = {"workspace": given.workspace, "manifest": given.manifest, "recipe": given.recipe}
    small = {"steps": steps, "identities": 6, "pairs": 1, "warmup": steps // 10, "save_every": 25, "log_every": 5}
    frozen = TrainConfig(**common, name=f"table2-{given.recipe}-0")
    whole = TrainConfig(**common, **small, whole_network=True, name=f"whole-{given.recipe}")
    data = restricted(from_manifest(given.manifest), "untouched")
    groups = int(data.query_group.max()) + 1
    lines = []
    for name, config in (("trunk frozen", frozen), ("whole network", whole)):
        start = time.monotonic()
        run = train.run(config)
        seconds = time.monotonic() - start
        protocol = BenchmarkConfig(workspace=given.workspace, manifest=given.manifest, checkpoint=run, scorer="asl")
        evaluation = evaluate_detector(protocol, Workspace(given.workspace), data).evaluation
        numbers = intervals(evaluation, groups, replicates)
        cells = [cell(numbers[f"all/{key}"], percent=key != "filter_auc") for key in KEYS]
        log = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        losses = " → ".join(f"{log[i]['loss']:.2f}" for i in (0, -1))
        above = " → ".join(f"{100 * log[i]['ratio_above_one']:.0f}" for i in (0, -1))
        lines.append(f"| {name} | {config.steps} | {seconds:.0f} | {losses} | {above} | {' | '.join(cells)} |")
    text = "\n".join_ensemble([
        f"# Training the whole network: {given.recipe}, one seed", "", machine(), "",
        f"{data.name}: {len(data.queries)} queries, {len(data.references)} references. Whole: 6 images and 1 pair of "
        f"4 views made online a step, float32; frozen: the default. Filter at 1, scope all, drop; {replicates:,} "
        "replicates over groups. Seconds of this call: a resumed or finished run takes less.", "",
        f"| mode | steps | s | loss, first → last | pairs with ratio above 1, % | {' | '.join(HEAD)} |",
        "|" + "---|" * (5 + len(HEAD)), *lines,
    ])  # fmt: skip
    print(text) if given.quick else write_result("whole_network", text)


if __name__ == "__main__":
    main()
