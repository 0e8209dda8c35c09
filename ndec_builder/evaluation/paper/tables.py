"""Tables 1 and 2 of the paper on your manifest, each row next to that of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ndec_builder.core.config import build, read_settings
from ndec_builder.core.console import say
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.methods import Method, config_of, parse_methods
from ndec_builder.evaluation.detectors.scoring import score, with_norms_of
from ndec_builder.evaluation.evaluate import evaluate_scored
from ndec_builder.evaluation.metrics.bootstrap import Interval
from ndec_builder.evaluation.metrics.estimates import Evaluation
from ndec_builder.evaluation.metrics.over_seeds import Replicates, interval, over_seeds, paired_difference
from ndec_builder.evaluation.paper.gaps import Gaps
from ndec_builder.evaluation.paper.published import TABLE_1, TABLE_2, TRAINED_ON_QUERIES, PaperRow
from ndec_builder.evaluation.settings import PaperConfig

NUMBERS = (  # column, key without a filter, key with one
    ("uap", "uap", "uap"),
    ("tp", "tp", "tp_kept_count"),
    ("fp", "fp", "fp_kept_count"),
    ("precision", "precision_at_n", "precision_after_filter"),
    ("recall", "recall_at_n", "recall_after_filter"),
    ("filter_then_cut", "precision_at_n", "precision_filter_then_cut"),
    ("tp_kept", "", "tp_kept"),
    ("fp_kept", "", "fp_kept"),
    ("filter_auc", "", "filter_auc"),
    ("recall_at_p90", "recall_at_p90", "recall_at_p90"),
)
SUBSETS_SHOWN = ("all", "natural", "reverse_crop", "without")


class RowValues(NamedTuple):
    """What a row is made from. numbers: of `over_seeds` · sizes: of `Evaluation.sizes`, summed over the runs."""

    numbers: Replicates
    sizes: dict[str, np.ndarray]


@dataclass(frozen=True)
class TableRow:
    """One row: numbers with intervals for each subset of the queries, and the differences to the unfiltered row."""

    name: str
    numbers: dict[str, dict[str, Interval]]  # subset → number → interval
    uap_gain: Interval
    precision_gain: Interval
    paper: PaperRow | None
    note: str = ""


def table_1(config: PaperConfig, workspace: Workspace, dataset: Dataset, gaps: Gaps) -> list[TableRow]:
    """Each method without and with the filter: by its own row `NAME+ASL` if given, otherwise by --asl-checkpoint."""
    methods = {method.name: method for method in parse_methods(config.method)}
    assert config.asl_checkpoint is not None
    rows = []
    for name, method in methods.items():
        if name.removesuffix("+ASL") in methods and name.endswith("+ASL"):
            continue
        plain = config_of(method, config)
        scored = score(plain, workspace, dataset)
        base = _values([evaluate_scored(plain, dataset, scored).evaluation], config, dataset)
        remarks = ["trained on DISC21 queries (paper's row)"] if name in TRAINED_ON_QUERIES else []
        remarks += gaps.check(name, dataset, scored)
        own = methods.get(f"{name}+ASL")
        if own is None:
            scored = with_norms_of(config.asl_checkpoint, scored, plain, workspace, dataset)
            filtered = config_of(method, config, scorer="asl", asl_checkpoint=config.asl_checkpoint)
            note = f"filtered by the norms of {_run_name(config.asl_checkpoint)}"
        else:
            filtered = config_of(own, config, **_own_norms(own, config))
            scored = score(filtered, workspace, dataset)
            whose = "its own norms" if own.has_norms else f"the norms of {_run_name(config.asl_checkpoint)}"
            note = "; ".join([f"filtered by {whose}", *gaps.check(f"{name}+ASL", dataset, scored)])
        values = _values([evaluate_scored(filtered, dataset, scored).evaluation], config, dataset)
        rows.append(_row(name, base, False, None, TABLE_1.get(name), "; ".join(remarks)))
        rows.append(_row(f"{name}+ASL", values, True, base, TABLE_1.get(f"{name}+ASL"), note))
    return rows


def _run_name(checkpoint: Path) -> str:
    """Name of a run, given as its directory or as its checkpoint file."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent).absolute().name


def _own_norms(method: Method, config: PaperConfig) -> dict[str, object]:
    if method.has_norms:
        return {"scorer": "asl"}
    return {"scorer": "asl", "asl_checkpoint": config.asl_checkpoint}


def table_2(config: PaperConfig, workspace: Workspace, dataset: Dataset, gaps: Gaps) -> list[TableRow]:
    """Train every recipe with every seed ([train] in ndec.toml applies), evaluate and compare them."""
    from ndec_builder.training.recipes import TRAINING_RECIPES, recipe_named

    names = config.recipe or tuple(TRAINING_RECIPES)
    for name in names:
        recipe_named(name)  # fail before an hour of training if a name is wrong
    base: RowValues | None = None
    rows = []
    for name in sorted(names, key=lambda name: (name != "baseline", list(TRAINING_RECIPES).index(name))):
        plain, filtered = recipe_values(config, workspace, dataset, name, gaps)
        paper = TABLE_2.get(name)
        if name == "baseline":
            base = plain
            rows.append(_row(name, base, False, None, paper))
            continue
        if name == "triplet":  # the paper does not say how it filtered this row: show both
            rows.append(_row(name, plain, False, base, paper, "not filtered"))
        note = "filtered; its norms were not trained" if name == "triplet" else "filtered"
        rows.append(_row(name, filtered, True, base, paper, note if paper else f"{note}; not in the paper"))
    return rows


def recipe_values(
    config: PaperConfig, workspace: Workspace, dataset: Dataset, recipe: str, gaps: Gaps
) -> tuple[RowValues, RowValues]:
    """Train a recipe with every seed and evaluate the runs without and with the filter by their own norms."""
    plain, filtered = [], []
    for seed in range(config.seeds):
        method = Method(recipe, {"checkpoint": (trained(config, workspace, recipe, seed),)})
        settings = config_of(method, config, scorer="asl")
        searched = replace(settings, scorer="cosine")
        scored = score(searched, workspace, dataset)  # once for both
        gaps.check(recipe, dataset, scored)
        plain.append(evaluate_scored(searched, dataset, scored).evaluation)
        filtered.append(evaluate_scored(settings, dataset, scored).evaluation)
    return _values(plain, config, dataset), _values(filtered, config, dataset)


def trained(config: PaperConfig, workspace: Workspace, recipe: str, seed: int) -> Path:
    """The run of one recipe and seed; a finished run is reused."""
    from ndec_builder.training import train
    from ndec_builder.training.settings import TrainConfig

    settings = read_settings(workspace.settings)
    fixed = {"workspace": workspace.root, "manifest": config.manifest, "device": config.device}
    name = f"table2-{recipe}-{seed}"
    return train.run(build(TrainConfig, "train", settings, **fixed, recipe=recipe, seed=seed, name=name))


def _values(runs: Sequence[Evaluation], config: PaperConfig, dataset: Dataset) -> RowValues:
    say(f"bootstrap over {len(runs)} run{'s' * (len(runs) != 1)}")
    groups = int(dataset.query_group.max()) + 1
    numbers = over_seeds(runs, groups, config.replicates, config.seed)
    sizes = [run.sizes(groups) for run in runs]
    return RowValues(numbers, {key: np.sum([one[key] for one in sizes], axis=0) for key in sizes[0]})


def _row(
    name: str, values: RowValues, filtered: bool, base: RowValues | None, paper: PaperRow | None, note: str = ""
) -> TableRow:
    numbers = {
        subset: {
            number: interval(values.numbers, f"{subset}/{with_filter if filtered else without}", values.sizes)
            for number, without, with_filter in NUMBERS
        }
        for subset in SUBSETS_SHOWN
        if f"{subset}/uap" in values.numbers
    }
    undefined = Interval(None, None, None)
    if base is None:
        return TableRow(name, numbers, undefined, undefined, paper, note)
    precision = "all/precision_after_filter" if filtered else "all/precision_at_n"
    return TableRow(
        name, numbers, paired_difference(values.numbers, base.numbers, "all/uap"),
        paired_difference(values.numbers, base.numbers, precision, "all/precision_at_n"), paper, note,
    )  # fmt: skip
