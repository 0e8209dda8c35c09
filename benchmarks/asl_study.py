"""Does ASL have the effect described in the paper on your manifest? Recipes over seeds, with 95 % intervals.

    python benchmarks/asl_study.py --workspace DIR --manifest DIR [--seeds 5] [--queries untouched|tuned|all] [--quick]

Trains every recipe (frozen trunk, cached views; finished runs are reused) and evaluates it. The queries are split in
two halves by a hash of their group. Settings were tuned on the half `tuned`; results are for the half `untouched`
unless --queries says otherwise. Writes benchmarks/results/asl_study.md, asl_study_tuned.md or asl_study_all.md; with
--quick only prints.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from ndec_builder.core.config import build, read_settings
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors.methods import Method, config_of
from ndec_builder.evaluation.detectors.scoring import Scored, score
from ndec_builder.evaluation.evaluate import evaluate_scored
from ndec_builder.evaluation.halves import restricted
from ndec_builder.evaluation.metrics.bootstrap import Interval
from ndec_builder.evaluation.metrics.over_seeds import Replicates, interval, over_seeds, paired_difference
from ndec_builder.evaluation.settings import AUTO, BenchmarkConfig, PaperConfig
from ndec_builder.training import train
from ndec_builder.training.checkpoint import read_card
from ndec_builder.training.recipes import TRAINING_RECIPES
from ndec_builder.training.settings import TrainConfig

OWN, FIRST_N = ", own threshold", ", own threshold, first N"
FEW_GROUPS = 20  # natural groups below which nothing is claimed
SUBSETS = ("all", "natural", "reverse_crop")


def cell(number: Interval, percent: bool = True, sign: bool = False) -> str:
    if number.value is None:
        return "–"
    factor, form = (100, "{:+.1f}" if sign else "{:.1f}") if percent else (1, "{:.3f}")
    value, low, high = (None if x is None else form.format(factor * x) for x in (number.value, number.low, number.high))
    return f"{value}" if low is None else f"{value} ({low} … {high})"


def table(values: dict[str, tuple[Replicates, Replicates]], subset: str) -> list[str]:
    lines = [
        "| recipe | μAP % | μAP gain | P@N % | precision after filter % | its gain | TP kept % | FP kept % | AUC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    base = values["baseline"][0]
    for name, (plain, filtered) in values.items():
        at_n = cell(interval(plain, f"{subset}/precision_at_n"))
        if name == "baseline":
            lines.append(f"| baseline | {cell(interval(plain, f'{subset}/uap'))} | – | {at_n} | – | – | – | – | – |")
            continue
        key = f"{subset}/precision_after_filter"
        cells = [
            name, cell(interval(filtered, f"{subset}/uap")),
            cell(paired_difference(filtered, base, f"{subset}/uap"), sign=True), at_n, cell(interval(filtered, key)),
            cell(paired_difference(filtered, base, key, f"{subset}/precision_at_n"), sign=True),
            cell(interval(filtered, f"{subset}/tp_kept")), cell(interval(filtered, f"{subset}/fp_kept")),
            cell(interval(filtered, f"{subset}/filter_auc"), percent=False),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def trained(config: PaperConfig, workspace: Workspace, recipe: str, seed: int) -> Path:
    """The run of table 2; recipes with one of the two norm terms are evaluated only at 1 and choose no threshold."""
    own: dict[str, Any] = {} if chooses(recipe) else {"keep_copies": 0.0}
    fixed = {"workspace": workspace.root, "manifest": config.manifest, "device": config.device}
    settings = read_settings(workspace.settings)
    name = f"table2-{recipe}-{seed}"
    return train.run(build(TrainConfig, "train", settings, **fixed, **own, recipe=recipe, seed=seed, name=name))


def chooses(recipe: str) -> bool:
    return TRAINING_RECIPES[recipe].crop_norms and TRAINING_RECIPES[recipe].pair_norms


def study_values(
    config: PaperConfig, workspace: Workspace, data: Dataset, names: Sequence[str]
) -> dict[str, tuple[Replicates, Replicates]]:
    """Recipe → numbers without and with the filter at 1; `RECIPE, own` → at the threshold that each run chose;
    `RECIPE, first N` → at that one, μAP with the first N rows filtered alone (the paper leaves that open).

    Where the norms were trained, the first of the two is the second again: its list before the filter is in there.
    """
    runs = {name: [trained(config, workspace, name, seed) for seed in range(config.seeds)] for name in names}
    values = {}
    for name in names:
        plain = [config_of(Method(name, {"checkpoint": (run,)}), config) for run in runs[name]]
        scored = [(settings, score(settings, workspace, data)) for settings in plain]

        def numbers(scored: list[tuple[BenchmarkConfig, Scored]] = scored, **changes: Any) -> Replicates:
            evaluated = [evaluate_scored(replace(settings, **changes), data, found) for settings, found in scored]
            return over_seeds([one.evaluation for one in evaluated], int(data.query_group.max()) + 1, config.replicates,
                              config.seed)  # fmt: skip

        if not TRAINING_RECIPES[name].trains_norms:
            values[name] = numbers(), numbers(scorer="asl") if name == "triplet" else {}
            continue
        values[name] = (at_1 := numbers(scorer="asl"), at_1)
        if chooses(name):
            values[f"{name}{OWN}"] = (own := numbers(scorer="asl", threshold=AUTO), own)
            values[f"{name}{FIRST_N}"] = (first := numbers(scorer="asl", threshold=AUTO, scope="topN"), first)
    return values


def thresholds(config: PaperConfig, names: Sequence[str]) -> list[str]:
    """What the runs chose on their held-out training groups: medians over the seeds."""
    lines = [
        "| recipe | threshold | held-out copies | kept at it % | kept at 1 % | held-out pairs | rejected at it % "
        "| rejected at 1 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        if not chooses(name):
            continue
        runs = [Workspace(config.workspace).run(f"table2-{name}-{seed}") for seed in range(config.seeds)]
        chosen = [read_card(run)["threshold"] for run in runs]
        middle = {key: float(np.median([one[key] for one in chosen])) for key in chosen[0]}
        cells = [
            name, f"{middle['value']:.2f}", f"{middle['copies']:.0f}", f"{100 * middle['kept']:.0f}",
            f"{100 * middle['kept_at_1']:.0f}", f"{middle['hard']:.0f}", f"{100 * middle['rejected']:.0f}",
            f"{100 * middle['rejected_at_1']:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def targets(values: dict[str, tuple[Replicates, Replicates]]) -> list[str]:
    lines = ["| what the issue asks for | measured | met |", "|---|---|---|"]

    def row(what: str, number: Interval, met: bool, percent: bool = True) -> None:
        lines.append(f"| {what} | {cell(number, percent, percent)} | {'yes' if met else 'no'} |")

    base = values["baseline"][0]
    for name in (kind + own for kind in ("asl", "asl-code", "asl-copies") for own in ("", OWN)):
        if name not in values:
            continue
        own = values[name][1]
        gain = paired_difference(own, base, "all/uap")
        row(f"`{name}`: μAP with filter − baseline, above 0", gain, (gain.low or -1) > 0)
        gain = paired_difference(own, base, "all/precision_after_filter", "all/precision_at_n")
        row(f"`{name}`: precision after filter − baseline, above 0", gain, (gain.low or -1) > 0)
        auc, kept = interval(own, "all/filter_auc"), interval(own, "all/tp_kept")
        row(f"`{name}`: filter AUC ≥ .80", auc, (auc.value or 0) >= 0.8, percent=False)
        lines.append(f"| `{name}`: TP kept ≥ 75 % | {cell(kept)} | {'yes' if (kept.value or 0) >= 0.75 else 'no'} |")
    pairs = (("asl-positive", "asl-negative"), ("asl", "triplet"), (f"asl{OWN}", "triplet"))
    for one, other in pairs:
        if one in values and other in values:
            for key, what in (("all/uap", "μAP"), ("all/precision_after_filter", "precision after filter")):
                gain = paired_difference(values[one][1], values[other][1], key)
                row(f"`{one}` − `{other}` (both filtered): {what} ≥ 0", gain, (gain.value or 0) >= 0)
    for name in ("asl", f"asl{OWN}"):
        if "triplet" in values and name in values:
            gain = paired_difference(values[name][1], values["triplet"][0], "all/uap")
            row(f"`{name}` filtered − `triplet` unfiltered: μAP ≥ 0", gain, (gain.value or 0) >= 0)
            gain = paired_difference(
                values[name][1], values["triplet"][0], "all/precision_after_filter", "all/precision_at_n"
            )
            row(f"`{name}` filtered − `triplet` unfiltered: precision ≥ 0", gain, (gain.value or 0) >= 0)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--queries", choices=("untouched", "tuned", "all"), default="untouched")
    parser.add_argument("--recipe", action="append", help="only these; repeat it")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="two recipes, one seed, 100 replicates, nothing written")
    given = parser.parse_args()
    names = ("baseline", "asl") if given.quick else tuple(given.recipe or TRAINING_RECIPES)
    config = PaperConfig(
        workspace=given.workspace, manifest=given.manifest, table=2, seeds=1 if given.quick else given.seeds,
        replicates=100 if given.quick else given.replicates,
    )  # fmt: skip
    started = time.monotonic()
    data = restricted(from_manifest(given.manifest), given.queries)
    workspace = Workspace(given.workspace)
    values = study_values(config, workspace, data, names)
    natural = len(np.unique(data.query_group[data.stratum == 1]))
    lines = [
        "# ASL on a small manifest", "",
        f"{machine()} · {time.monotonic() - started:.0f} s of this call (finished runs are only looked up)", "",
        f"{data.name}: {len(data.queries)} queries ({int((data.stratum == 1).sum())} natural hard negatives in "
        f"{natural} groups, {int((data.stratum == 2).sum())} reverse crops, {len(data.truth)} copies), "
        f"{len(data.references)} references. All pairs, raw; filter at 1 or at the threshold that each "
        f"run chose on held-out training groups, scope all, drop; {config.seeds} seeds, "
        f"{config.replicates:,} replicates over groups and seeds jointly. Labels by {data.labels_by}.", "",
        *([] if natural >= FEW_GROUPS else ["**Too few natural groups: no figure is claimed.**", ""]),
        *targets(values),
    ]  # fmt: skip
    for subset in SUBSETS:
        lines += ["", f"## Hard negatives: {subset.replace('_', ' ')}", "", *table(values, subset)]
    lines += ["", "## Thresholds chosen on training data", "", *thresholds(config, names)]
    text = "\n".join(lines)
    name = "asl_study" if given.queries == "untouched" else f"asl_study_{given.queries}"
    print(text) if given.quick else write_result(name, text)


if __name__ == "__main__":
    main()
