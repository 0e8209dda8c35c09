"""Figures of the league's report as inline SVG, in the colours and with the care of `evaluation/plotting.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.metrics.ranked import curve
from ndec_builder.evaluation.plotting import BLUE, MID_GREY, ORANGE, canvas, svg_of, thinned


def dumbbells(rows: Sequence[Mapping[str, Any]]) -> str:
    """μAP of each detector with and without hard negatives, joined by a line, with intervals. → SVG."""
    figure, axes = canvas((6.4, 0.9 + 0.42 * len(rows)))
    axes.set_axisbelow(True)
    for place, row in enumerate(reversed(rows)):
        numbers = row["numbers"]
        ends = [numbers[key] for key in ("all/uap", "without/uap") if key in numbers]
        axes.plot([end["value"] for end in ends], [place] * len(ends), "-", color=MID_GREY, linewidth=2, zorder=1)
        for end, colour, marker, lift in zip(ends, (ORANGE, BLUE), ("X", "o"), (0.12, -0.12), strict=False):
            if end["low"] is not None:
                axes.plot([end["low"], end["high"]], [place + lift] * 2, "-", color=colour, linewidth=1, zorder=2)
            axes.plot(end["value"], place, marker, color=colour, markersize=8, zorder=3)
    axes.plot([], [], "X", color=ORANGE, markersize=8, label="with hard negatives")
    if any("without/uap" in row["numbers"] for row in rows):
        axes.plot([], [], "o", color=BLUE, markersize=8, label="without")
    axes.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)], fontsize=11)
    axes.set(xlim=(0, 1), xlabel="micro average precision")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return svg_of(figure)


def small_curve(rows: GroupedList) -> str:
    """Precision over recall of one detector, with and without hard negatives. → SVG."""
    figure, axes = canvas((3.0, 2.6))
    axes.set_axisbelow(True)
    lists = [
        ("with hard negatives", rows.ranked, ORANGE, "-"),
        ("without", rows.ranked.keep(rows.stratum == 0), BLUE, "--"),
    ]
    for name, ranked, colour, style in lists if (rows.stratum > 0).any() else lists[:1]:
        recall, precision = curve(ranked)
        shown = thinned(len(recall))
        axes.plot(recall[shown], precision[shown], style, color=colour, linewidth=2, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    return svg_of(figure)
