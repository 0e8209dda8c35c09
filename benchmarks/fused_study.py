"""The fused scorer against its baseline on the mini corpus, over seeds: `recovered`, `gap_closed`, `held` and more.

    python benchmarks/fused_study.py OUT [--seeds 5] [--half untouched|tuned|all] [--port 8700] [--quick]

Each seed draws roles, edits and scenes again from the same corpus (the stages of `ndec demo` up to the manifest, with
labels by the simulated annotator `oracle` from the known truth), fits the scorer on the training tables (`ndec
train-asl --recipe fused`) and evaluates the queries of one half of the groups. A hash of the group name defines the
halves, so they are equal for all seeds; all tuning used the half `tuned`. Run it again to resume. Intervals: bootstrap
over groups (by name, for all seeds together) and over seeds. --only-prepare stops before the evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import machine, write_result
from ship_thresholds import calibrated

from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo import run
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors.fused_rescoring import (
    measure_pairs,
    own_sides,
    probabilities,
    with_scores,
)
from ndec_builder.evaluation.detectors.local_shortlist import local_pairs, with_local_pairs
from ndec_builder.evaluation.detectors.scoring import score
from ndec_builder.evaluation.evaluate import group_predictions
from ndec_builder.evaluation.halves import query_groups, restricted
from ndec_builder.evaluation.metrics.bootstrap import Interval
from ndec_builder.evaluation.metrics.calibration import best_of_queries, calibration_estimate, equal_mass
from ndec_builder.evaluation.metrics.estimates import Evaluation
from ndec_builder.evaluation.metrics.over_seeds import Replicates, interval, over_seeds, paired_difference
from ndec_builder.evaluation.metrics.ranked import average_precision
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.fused import run as fused_run
from ndec_builder.training.fused.edges import EDGES
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.fit import PairTable, fit_networks
from ndec_builder.training.fused.layout import LAYOUT
from ndec_builder.training.fused.model import FusedModel, load_model
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.fused.thumbnails import THUMBS

MODEL, TOP = "efficientnet-lite0", BenchmarkConfig.rescored
FEW_GROUPS = 20  # natural groups in the evaluated half below which nothing is claimed
SEARCHES = {
    "all pairs": {},
    "all pairs, normalised": {"norm_factor": 1.0},
    "k = 10": {"k": 10},
    "k = 1": {"k": 1},
}
SUBSETS = ("all", "natural", "reverse_crop", "without")
PARTS = {  # of the features, as the issue names them
    "score": ("score",),
    "score, normalised": ("score_normalized",),
    "log query_over_reference": ("log_query_over_reference",),
    "inliers, their share": ("verified", "log_inliers", "inlier_share"),
    "matches, their density": ("log_matches", "match_density"),
    "query_inside": ("query_inside", "query_outside"),
    "reference_covered": ("reference_covered",),
    "seam": ("seam", "seam_seen"),
    "correlation after alignment": (
        "local_correlation", "median_correlation", "agreeing_share", "global_correlation", "compared", "shift",
    ),
    "plausibility of the homography": ("perspective", "stretch", "scale", "epipolar_share"),
    "mirrored": ("mirrored",),
    "thumbnails": THUMBS,
    "edges": EDGES,
    "layouts": LAYOUT,
}  # fmt: skip


@dataclass(frozen=True)
class SearchResult:
    """One seed and search: the baseline's list, the fused one, and what is needed to evaluate other fits."""

    data: Dataset
    base: Predictions
    fused: Predictions
    chosen: np.ndarray
    rows: np.ndarray


class Kept:
    """Evaluation plus `kept`, `judged` and `ece`; groups: (queries,) int, of `count` groups of all seeds.

    kept: the share of the baseline's own true positives of its top N that stay in the top N. judged: the share of the
    copies that are re-scored. ece: the calibration error of each query's best pair.

    Both cuts are those of the data; a replicate weights the pairs.
    """

    def __init__(self, one: SearchResult, groups: np.ndarray, count: int) -> None:
        data = replace(one.data, query_group=groups)
        self.before, self.after = group_predictions(data, one.base), group_predictions(data, one.fused)
        n, queries = len(data.truth), data.truth_queries()
        self.fused = Evaluation(self.after, groups[queries], n, data.subsets, None, self.before)
        self.base = Evaluation(self.before, groups[queries], n, data.subsets)
        first = [self._top(data, ranked, found, n) for ranked, found in
                 ((self.before, one.base), (self.after, one.fused))]  # fmt: skip
        self.group, self.there, self.both = groups[queries], first[0], first[0] & first[1]
        pairs = one.base.pairs(len(data.references))
        self.judged = np.isin(data.truth, pairs[one.chosen])
        query, reference, scores = (
            part[one.chosen] for part in (one.fused.query, one.fused.reference, one.fused.scores)
        )
        rescored = replace(one.fused, query=query, reference=reference, scores=scores)
        best = best_of_queries(rescored.query, group_predictions(data, rescored))
        self.reliability = calibration_estimate(best, equal_mass(best.score), count)[0]

    @staticmethod
    def _top(data: Dataset, rows: object, found: Predictions, n: int) -> np.ndarray:
        order = found.pairs(len(data.references))[rows.ranked.rows]  # type: ignore[attr-defined]
        result: np.ndarray = np.isin(data.truth, order[:n])
        return result

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        values = {f"fused {key}": value for key, value in self.fused(weights).items()}
        values |= {f"base {key}": value for key, value in self.base(weights).items()}
        drawn = weights[self.group]
        there = drawn[self.there].sum(axis=0)
        kept = drawn[self.both].sum(axis=0)
        judged = drawn[self.judged].sum(axis=0)
        values["judged"] = judged / np.maximum(drawn.sum(axis=0), 1)
        values["ece"] = self.reliability(weights)["ece"]
        values["kept"] = np.divide(kept, there, out=np.full(there.shape, np.nan), where=there > 0)
        return values


def prepare(out: Path, seed: int, size: str, port: int) -> tuple[Path, FusedConfig]:
    """One seed's manifest and fit; existing files are reused."""
    workspace = out / f"seed-{seed}"
    manifest = workspace / "manifests" / "demo-1.0.0"
    if not (manifest / "manifest.json").is_file():
        manifest = run.make_manifest(run.DemoConfig(workspace, size=size, seed=seed, port=port))
    config = FusedConfig(workspace, manifest, seed=seed)
    fused_run.run(config)
    return manifest, config


def evaluate_seed(
    workspace: Path,
    manifest: Path,
    model: FusedModel,
    half: str,
    local: bool,
    searches: Sequence[str] = tuple(SEARCHES),
) -> dict[str, SearchResult]:
    """local: searches without k also examine pairs that share local features (`--shortlist both`)."""
    data = restricted(from_manifest(manifest), half)
    space = Workspace(workspace)
    sides = own_sides(space, data, model, 8, "cpu")
    found = {}
    for name in searches:
        search = SEARCHES[name]
        config = BenchmarkConfig(workspace=workspace, manifest=manifest, model=MODEL, device="cpu", **search)  # type: ignore[arg-type]
        base, also = score(config, space, data).predictions, None
        if local and "k" not in search:
            pairs = local_pairs(space, data, config.rescored_local, Engine())
            base, also = with_local_pairs(base, *pairs, len(data.references))
        chosen, rows = measure_pairs(space, data, base, model, sides, TOP, Engine(), also=also)
        probability = probabilities(data, base, model, sides[1], chosen, rows)
        fused = with_scores(base, chosen, probability)
        found[name] = SearchResult(data, base, fused, chosen, rows)
    return found


def without(table: PairTable, columns: Sequence[str]) -> PairTable:
    """The training pairs with these features at 0."""
    rows = table.features.copy()
    rows[:, [PAIR_FEATURES.index(name) for name in columns]] = 0
    return replace(table, features=rows)


def contributions(one: SearchResult, table: PairTable, model: FusedModel, config: FusedConfig) -> dict[str, np.ndarray]:
    """Part → μAP with all hard negatives, with natural ones and without any: (3,) when it is left out, (3,) alone."""
    small = replace(config, networks=2)

    def uaps(columns: Sequence[str]) -> np.ndarray:
        fitted = fit_networks(without(table, columns), model.whitening, model.background, small)
        rows = one.rows.copy()
        rows[:, [PAIR_FEATURES.index(name) for name in columns]] = 0
        ranked = group_predictions(one.data, with_scores(one.base, one.chosen, fitted.probability(rows)))
        return np.array([average_precision(ranked.keep(np.isin(ranked.stratum, kept)).ranked)
                         for kept in ((0, 1, 2, 3), (0, 1), (0,))])  # fmt: skip

    full = uaps(())
    values = {"all of them": np.concatenate([full, full])}
    for part, columns in PARTS.items():
        others = [name for name in PAIR_FEATURES if name not in columns]
        values[part] = np.concatenate([full - uaps(columns), uaps(others)])
    return values


def cell(number: Interval, form: str = "{:.3f}") -> str:
    if number.value is None:
        return "–"
    low, high = (form.format(x) if x is not None else "?" for x in (number.low, number.high))
    return f"{form.format(number.value)} ({low} … {high})"


def search_table(values: Replicates) -> list[str]:
    keys = ("uap", "precision_at_n", "recall_at_p90")
    lines = [
        "| hard negatives | μAP base → fused | P@N base → fused | R@P90 base → fused | recovered | gap closed | held |",
        "|---|---|---|---|---|---|---|",
    ]
    for subset in SUBSETS:
        if f"fused {subset}/uap" not in values:
            continue
        pairs = [f"{cell(interval(values, f'base {subset}/{key}'))} → {cell(interval(values, f'fused {subset}/{key}'))}"
                 for key in keys]  # fmt: skip
        gaps = [cell(interval(values, f"fused {subset}/{key}")) for key in ("recovered", "gap_closed", "held")]
        lines.append(f"| {subset.replace('_', ' ')} | {' | '.join(pairs + gaps)} |")
    return [
        *lines,
        "",
        f"The baseline's true positives of its top N still in the top N: {cell(interval(values, 'kept'))}.",
    ]


def target_table(values: Replicates, claim: bool) -> list[str]:
    lines = ["| asked for (hard negatives: all; all pairs, raw) | measured | met |", "|---|---|---|"]

    def row(what: str, number: Interval, low: float) -> None:
        met = number.value is not None and number.value >= low
        sure = met and number.low is not None and number.low >= low
        verdict = "not claimed" if not claim else "yes, and its interval" if sure else "yes" if met else "no"
        lines.append(f"| {what} | {cell(number)} | {verdict} |")

    row("copies that are judged ≥ .97", interval(values, "judged"), 0.97)
    row("μAP ≥ .93", interval(values, "fused all/uap"), 0.93)
    row("R@P90 ≥ .88", interval(values, "fused all/recall_at_p90"), 0.88)
    row("P@N ≥ .88", interval(values, "fused all/precision_at_n"), 0.88)
    row("baseline's true positives kept ≥ .95", interval(values, "kept"), 0.95)
    error = interval(values, "ece")
    met = "not claimed" if not claim or error.value is None else "yes" if error.value <= 0.05 else "no"
    lines.append(f"| calibration error ≤ .05 | {cell(error)} | {met} |")
    row("recovered ≥ .8", interval(values, "fused all/recovered"), 0.8)
    row("gap_closed ≥ .75", interval(values, "fused all/gap_closed"), 0.75)
    row("held ≥ .85", interval(values, "fused all/held"), 0.85)
    gain = paired_difference(values, values, "fused without/uap", "base without/uap")
    row("μAP without hard negatives − baseline's ≥ 0", gain, 0.0)
    return lines


def contribution_table(parts: Sequence[dict[str, np.ndarray]]) -> list[str]:
    lines = ["| part | μAP lost without it: all | natural | none | μAP with it alone: all | natural | none |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name in parts[0]:
        table = np.stack([part[name] for part in parts])
        mean, spread = table.mean(axis=0), table.std(axis=0)
        lost = [f"{mean[i]:+.3f} ± {spread[i]:.3f}" if name in PARTS else f"({mean[i]:.3f})" for i in range(3)]
        shown = [*lost, *(f"{value:.3f}" for value in mean[3:])]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def natural_groups(data: Dataset) -> set[str]:
    return {name for name, stratum in zip(query_groups(data), data.stratum, strict=True) if stratum == 1}


def study(options: argparse.Namespace, say: Callable[[str], None] = print) -> list[str]:
    seeds = range(options.first, options.first + (1 if options.quick else options.seeds))
    prepared = {seed: prepare(options.out, seed, "small" if options.quick else "full", options.port) for seed in seeds}
    if options.only_prepare:
        return []
    evaluated: dict[int, dict[str, SearchResult]] = {}
    parts = []
    for seed, (manifest, config) in prepared.items():
        model = load_model(fused_run.run(config))
        search = BenchmarkConfig(workspace=config.workspace, manifest=manifest, model=MODEL, device="cpu")
        model = calibrated(config.workspace, search, model)  # on the half `tuned`, as the fit that comes with ndec
        evaluated[seed] = evaluate_seed(config.workspace, manifest, model, options.half, options.shortlist == "both")
        if not options.without_parts:
            table = fused_run.measured_pairs(config, fused_run.prepare_training(config), model.heads)
            parts.append(contributions(evaluated[seed]["all pairs"], table, model, config))
        say(f"seed {seed}: evaluated")
    names = sorted({name for seed in seeds for name in query_groups(evaluated[seed]["k = 1"].data)})
    number = {name: place for place, name in enumerate(names)}
    groups = {s: np.array([number[n] for n in query_groups(evaluated[s]["k = 1"].data)]) for s in seeds}
    replicates = 100 if options.quick else options.replicates
    values = {}
    for search in SEARCHES:
        runs = [Kept(evaluated[seed][search], groups[seed], len(names)) for seed in seeds]
        values[search] = over_seeds(runs, len(names), replicates, 0)  # type: ignore[arg-type]
        say(f"{search}: {replicates} replicates")
    natural = [natural_groups(evaluated[seed]["k = 1"].data) for seed in seeds]
    whole = [len(natural_groups(from_manifest(prepared[seed][0]))) for seed in seeds]
    claim = min(map(len, natural)) >= FEW_GROUPS
    sizes = [(len(one["k = 1"].data.queries), len(one["k = 1"].data.truth)) for one in evaluated.values()]
    lines = [
        "# The fused scorer on the mini corpus", "", machine(), "",
        f"Queries of the groups `{options.half}`; seeds {', '.join(map(str, seeds))}; queries and copies of each: "
        f"{', '.join(f'{q} and {c}' for q, c in sizes)}; natural groups of each: "
        f"{', '.join(f'{len(some)} of {count}' for some, count in zip(natural, whole, strict=True))}, "
        f"{len(set.union(*natural))} different ones. Labels simulated (known truth). "
        f"{replicates:,} replicates over groups and seeds jointly; `fused` re-scores the {TOP} best of each query"
        f"{', and without k five more that share local features' * (options.shortlist == 'both')}.", "",
        *([] if claim else [f"**Fewer than {FEW_GROUPS} natural groups: nothing is claimed.**", ""]),
        *target_table(values["all pairs"], claim),
    ]  # fmt: skip
    for search in SEARCHES:
        lines += ["", f"## Search: {search}", "", *search_table(values[search])]
    if parts:
        lines += ["", "## What each feature adds", "",
                  "μAP at all pairs, raw; mean ± standard deviation over seeds; 2 networks each.", "",
                  *contribution_table(parts)]  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--half", choices=("untouched", "tuned", "all"), default="untouched")
    parser.add_argument("--shortlist", choices=("global", "both"), default="global")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--port", type=int, default=8700, help="of Label Studio; the next one is taken too")
    parser.add_argument("--only-prepare", action="store_true", help="manifests and fits, then stop")
    parser.add_argument("--without-parts", action="store_true", help="leave out what each feature adds")
    parser.add_argument("--quick", action="store_true", help="one seed of the small demo, nothing written")
    options = parser.parse_args()
    text = "\n".join(study(options))
    if options.only_prepare:
        return
    if options.quick or options.half != "untouched":
        print(text)
    else:
        write_result("fused_study", text)


if __name__ == "__main__":
    main()
