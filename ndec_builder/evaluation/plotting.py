"""Figures of the report as inline SVG. Each class has its own colour (Okabe and Ito) and marker: colour-blind safe."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ndec_builder.evaluation.metrics.ranked import RankedList, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, MID_GREY, BLACK = "#0072B2", "#D55E00", "#888888", "#222222"
MAX_POINTS = 2_000  # in a curve or a scatter plot: more are not visible, and reports are sent by mail


def precision_recall(curves: Sequence[tuple[str, RankedList]]) -> str:
    """Precision over recall of up to three named lists, each with its own colour and line style. → SVG."""
    figure, axes = canvas()
    styles = [(BLUE, "-"), (ORANGE, "--"), (BLACK, ":")]
    for (name, ranked), (colour, style) in zip(curves, styles, strict=False):
        recall, precision = curve(ranked)
        shown = thinned(len(recall))
        axes.plot(recall[shown], precision[shown], style, color=colour, label=name, linewidth=2)
    axes.set(xlabel="recall (found / all ground-truth pairs)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
    axes.legend(frameon=False)
    return svg_of(figure)


def ratio_scatter(scores: np.ndarray, ratios: np.ndarray, classes: np.ndarray, threshold: float) -> str:
    """Score over log2 query_over_reference. classes: (m,) int, 0 copy, 1 hard negative, 2 distractor. → SVG.

    At most MAX_POINTS of each class are drawn: those with the best scores.
    """
    figure, axes = canvas()
    looks = ((2, "distractor", MID_GREY, "."), (1, "hard negative", ORANGE, "x"), (0, "edited copy", BLUE, "o"))
    for number, name, colour, marker in looks:
        rows = np.flatnonzero(classes == number)
        rows = rows[np.argsort(-scores[rows], kind="stable")][:MAX_POINTS]
        axes.plot(np.log2(ratios[rows]), scores[rows], marker, color=colour, fillstyle="none", markersize=5, label=name)
    axes.axvline(np.log2(threshold), color=BLACK, linewidth=1, linestyle=":")
    axes.set(xlabel="log2 query_over_reference (right of the dotted line: rejected)", ylabel="score")
    axes.legend(frameon=False)
    return svg_of(figure)


def reliability_diagram(bins: Sequence[Mapping[str, Any]], size: tuple[float, float] = (6.4, 4.2)) -> str:
    """Share of right answers over the probability given, with intervals; bins of `metrics.calibration`. → SVG."""
    figure, axes = canvas(size)
    axes.plot([0, 1], [0, 1], ":", color=MID_GREY)
    for entry in bins:
        if entry["low"] is not None:
            axes.plot([entry["said"]] * 2, [entry["low"], entry["high"]], "-", color=BLUE, linewidth=1)
    shown = [entry for entry in bins if entry["true"] is not None]
    axes.plot([b["said"] for b in shown], [b["true"] for b in shown], "o", color=BLACK, markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="probability given", ylabel="share right")
    return svg_of(figure)


def canvas(size: tuple[float, float] = (6.4, 4.2)) -> tuple[Figure, Axes]:
    # not pyplot: no global state, no display needed
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    return figure, axes


def thinned(count: int) -> np.ndarray:
    """Places of at most MAX_POINTS of `count` points, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, MAX_POINTS)).round().astype(np.int64))


def svg_of(figure: Figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ndec", "svg.fonttype": "none"}):  # no random ids: same bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
