"""Figure 6 for one report: μAP over the share of hard negatives, for this scorer and its baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.estimates import Evaluation
from ndec_builder.evaluation.paper.figures import Curve, Nesting, nested_curve
from ndec_builder.evaluation.plotting import BLUE, ORANGE, canvas, svg_of
from ndec_builder.evaluation.predictions import Predictions

_LINE_STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"))


def hard_share_curves(
    dataset: Dataset, final: Predictions, baseline: Predictions | None, evaluation: Evaluation, seed: int
) -> list[Curve]:
    """One curve for the list that μAP is computed on and one for the baseline; empty without hard negatives.

    final, baseline: the predictions behind `evaluation.final` and `evaluation.baseline`.
    """
    if not (dataset.stratum > 0).any():
        return []
    how = Nesting(seed=seed)
    lists = [("this scorer", evaluation.final, final)]
    if baseline is not None and evaluation.baseline is not None:
        lists.append(("baseline", evaluation.baseline, baseline))
    return [
        nested_curve(name, rows, found.query[rows.ranked.rows], evaluation.truth_group, dataset, how)
        for name, rows, found in lists
    ]


def draw_hard_share(curves: Sequence[Curve]) -> str:
    """Lines with bands; each has its own marker and line style. → SVG."""
    figure, axes = canvas()
    for curve, (colour, marker, style) in zip(curves, _LINE_STYLES, strict=False):
        shares = [100 * share for share in curve.shares]
        values, low, high = ([_number(getattr(i, side)) for i in curve.uap] for side in ("value", "low", "high"))
        axes.plot(shares, values, marker + style, color=colour, label=curve.name, linewidth=2)
        axes.fill_between(shares, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="hard negative queries in the test set (%)", ylabel="micro average precision", ylim=(0, 1))
    axes.legend(frameon=False)
    return svg_of(figure)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def describe_hard_share(curves: Sequence[Curve]) -> str:
    """The alt text of the figure."""
    ends = [(c.name, _number(c.uap[0].value), _number(c.uap[-1].value)) for c in curves]
    parts = [f"{name} from {first:.2f} without to {last:.2f} with all of them" for name, first, last in ends]
    return f"μAP over the share of hard negatives in the test set, with 95 % bands: {'; '.join(parts)}."
