"""`report.html`: one self-contained page with the verdict, the numbers, the curves and pictures of the mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ndec_builder.core.config import as_dict
from ndec_builder.core.console import number_of
from ndec_builder.core.storage import write_text
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.estimates import QUERY_SUBSETS, Evaluation
from ndec_builder.evaluation.paper.figures import Nesting
from ndec_builder.evaluation.plotting import precision_recall, ratio_scatter, reliability_diagram
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.report.gallery import missed_copies, worst_false_positives, worst_mistakes
from ndec_builder.evaluation.report.hard_share import describe_hard_share, draw_hard_share, hard_share_curves
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.evaluation.verdict import headline, verdict, without_prediction

_HEADLINE_ROWS = (  # key of metrics.json → name in the table of numbers
    ("uap", "micro average precision (μAP)"),
    ("uap_before_filter", "μAP before the filter"),
    ("uap_minus_baseline", "μAP minus the baseline's"),
    ("precision_at_n", "precision at N"),
    ("tp", "true positives at N"),
    ("fp", "false positives at N"),
    ("recall_at_n", "recall at N"),
    ("precision_after_filter", "precision at N, then filtered"),
    ("tp_kept", "share of the true positives kept"),
    ("fp_kept", "share of the false positives kept"),
    ("tp_kept_count", "true positives kept"),
    ("fp_kept_count", "false positives kept"),
    ("recall_after_filter", "recall at N, then filtered"),
    ("precision_filter_then_cut", "precision when filtered first, then cut at N"),
    ("filter_auc", "AUC of the norm ratio, hard negative against copy"),
    ("recall_at_p90", "recall at precision 0.9"),
    ("recovered", "recovered"),
    ("gap_closed", "gap closed"),
    ("held", "held"),
)
_COUNTS = {"tp", "fp", "tp_kept_count", "fp_kept_count"}
_FIGURES = ("precision_recall", "hard_share", "reliability", "ratio_scatter")  # all that a report may have
_SUBSET_TITLES = {
    "all": "all hard negatives", "natural": "natural only", "reverse_crop": "reverse crops only",
    "without": "without hard negatives",
}  # fmt: skip


def write_report(
    out: Path,
    dataset: Dataset,
    metrics: dict[str, Any],
    searched: Predictions,
    final: Predictions,
    evaluation: Evaluation,
    config: BenchmarkConfig,
    baseline: Predictions | None = None,
    lineage: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `report.html` and figures/*.svg into `out`.

    searched, final: the list before and after the filter · baseline: the list behind `evaluation.baseline` · lineage:
    name of an input → version or sha256.
    """
    import jinja2

    figures = _figures(metrics, searched, evaluation)
    if curves := hard_share_curves(dataset, final, baseline, evaluation, config.seed):
        about = f"Shaded: 95 %, {Nesting().replicates} bootstrap replicates over groups and {Nesting().orders} orders."
        figures.append(
            {
                "name": "hard_share",
                "title": "With more and more hard negatives",
                "alt": describe_hard_share(curves),
                "about": about,
                "svg": draw_hard_share(curves),
            }
        )
    drawn = {figure["name"] for figure in figures}
    for name in _FIGURES:
        if name not in drawn:  # of a report that was here before
            (out / "figures" / f"{name}.svg").unlink(missing_ok=True)
    for figure in figures:
        write_text(out / "figures" / f"{figure['name']}.svg", figure["svg"])
    ranked = evaluation.final.ranked
    galleries = [
        (
            "Worst false positives",
            "The highest ranked pairs that are not in the ground truth.",
            worst_false_positives(dataset, final, ranked, config.gallery, config.pictures),
        ),
        (
            "Missed copies",
            f"Ground-truth pairs that are not among the first N = {evaluation.n:,}, the farthest first.",
            missed_copies(dataset, final, ranked, searched, evaluation.n, config.gallery, config.pictures),
        ),
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ndec_builder.evaluation.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        metrics=metrics, columns=columns_of(metrics), titles=_SUBSET_TITLES, rows=_HEADLINE_ROWS, cell=_cell,
        figures=figures, galleries=galleries,
        settings=_settings(config),
        lineage=lineage, headline=headline(metrics), verdict=verdict(metrics), missing=without_prediction(metrics),
        worst=worst_mistakes(galleries[0][2], galleries[1][2]),
    )  # fmt: skip
    return write_text(out / "report.html", page)


def _settings(config: BenchmarkConfig) -> dict[str, Any]:
    """The settings to show: those that are set. What made the scores of a given list is not known."""
    shown = {name: value for name, value in as_dict(config).items() if value not in (None, [], "")}
    return shown if config.scores_are_known else {name: value for name, value in shown.items() if name != "scorer"}


def columns_of(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The subsets of the data, each with its numbers. One that holds all hard negatives is not repeated."""
    parts = {name: metrics["by_hard_kind"][name] for name in QUERY_SUBSETS if name != "all"}
    own = {name: part for name, part in parts.items() if part is not None and not _same(part, metrics)}
    return {"all": metrics, **own}


def _same(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    return all(part[key] == whole[key] for key, _ in _HEADLINE_ROWS)


def _cell(key: str, number: dict[str, float | None]) -> tuple[str, str]:
    """The value and its interval as text: `0.49`, `0.47 … 0.51`; a dash if undefined."""
    form = "{:.0f}" if key in _COUNTS else "{:.2f}"
    value, low, high = (None if x is None else form.format(x) for x in (number["value"], number["low"], number["high"]))
    return value or "–", "" if low is None else f"{low} … {high}"


def _figures(metrics: dict[str, Any], searched: Predictions, evaluation: Evaluation) -> list[dict[str, str]]:
    final = evaluation.final
    curves = [("all queries", final.ranked)]
    if "without" in evaluation.subsets:
        curves.append(("without the hard negatives", final.ranked.keep(final.stratum == 0)))
    if evaluation.baseline is not None:
        curves.append(("baseline, all queries", evaluation.baseline.ranked))
    figures = [
        {
            "name": "precision_recall",
            "title": "Precision over recall",
            "alt": f"Precision-recall curves of {', '.join(name for name, _ in curves)}. "
            f"The micro average precision over all queries is {metrics['uap']['value']:.2f}.",
            "svg": precision_recall(curves),
        }
    ]
    if found := metrics.get("calibration"):
        ece = _cell("ece", found["ece"])
        text = f"Expected calibration error: {ece[0]}{f' ({ece[1]})' if ece[1] else ''}, {found['queries']:,} queries."
        if others := found["queries_without_probability"]:
            text += f" {number_of(others, 'query has', 'queries have')} no re-scored pair and are not counted."
        figures.append(
            {
                "name": "reliability",
                "title": "Do the probabilities hold?",
                "alt": f"Reliability diagram: share of right answers over the probability given. {text}",
                "about": f"{text} Each query's best pair, in bins of equally many queries. Points on the dotted line: "
                "“90 %” means 90 %. Bars: 95 %, bootstrap over groups.",
                "svg": reliability_diagram(found["bins"]),
            }
        )
    if (judge := evaluation.filter) is not None:
        ranked = evaluation.searched.ranked
        shown = ranked.is_match.copy()  # the true pairs, and the best pair of each query
        shown[np.unique(searched.query[ranked.rows], return_index=True)[1]] = True
        rows = np.flatnonzero(shown)
        classes = np.where(ranked.is_match[rows], 0, np.where(evaluation.searched.stratum[rows] > 0, 1, 2))
        figures.append(
            {
                "name": "ratio_scatter",
                "title": "Score against the norm ratio",
                "alt": "Scatter of the score against log2 query_over_reference: true pairs as circles, the best pair "
                "of each hard negative as a cross, of each other query as a dot. The filter rejects right of the line. "
                f"AUC of the ratio: {_cell('filter_auc', metrics['filter_auc'])[0]}.",
                "svg": ratio_scatter(ranked.scores[rows], judge.ratios[rows], classes, judge.threshold),
            }
        )
    return figures
