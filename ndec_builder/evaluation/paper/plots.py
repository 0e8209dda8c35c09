"""Figures 6, 7 and 8 as PNG and SVG; the numbers of the paper are shown in grey."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.storage import atomic_path, write_text
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.bootstrap import Interval
from ndec_builder.evaluation.metrics.estimates import STRATA
from ndec_builder.evaluation.paper.figures import Curve
from ndec_builder.evaluation.paper.published import FIGURE_6, FIGURE_7
from ndec_builder.evaluation.plotting import BLUE, MID_GREY, ORANGE, canvas, svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_PAPER_LABEL = "the paper, on NDEC"


def draw_6(curves: Sequence[Curve], stem: Path) -> list[Path]:
    """μAP over the share of hard negatives, each method with its band."""
    figure, axes = canvas()
    for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
        shares = [100 * share for share in curve.shares]
        axes.plot(shares, [_percent(i.value) for i in curve.uap], "o-", color=colour, label=curve.name)
        low, high = ([_percent(getattr(i, side)) for i in curve.uap] for side in ("low", "high"))
        axes.fill_between(shares, low, high, color=colour, alpha=0.2, linewidth=0)
    points = sorted(FIGURE_6.items())
    axes.plot(
        [100 * x for x, _ in points],
        [y for _, y in points],
        "s--",
        color=MID_GREY,
        fillstyle="none",
        label=_PAPER_LABEL,
    )
    axes.set(xlabel="hard negative queries in the test set (%)", ylabel="micro average precision (%)", ylim=(0, 100))
    axes.legend(frameon=False)
    return _save(figure, stem)


def draw_7(bars: Mapping[str, Mapping[str, Interval]], stem: Path) -> list[Path]:
    """Pairs of bars, without and with hard negatives; those of the paper in grey."""
    figure, axes = canvas()
    names = [*bars, *FIGURE_7]
    for side, (key, hatch) in enumerate((("without", ""), ("with", "//"))):
        for place, name in enumerate(names):
            own = name in bars and place < len(bars)
            number = bars[name][key] if own else Interval(FIGURE_7[name][side] / 100, None, None)
            height, colour = _percent(number.value), (BLUE, ORANGE)[side] if own else MID_GREY
            axes.bar(place + 0.4 * side - 0.2, height, 0.38, color=colour, hatch=hatch, edgecolor="white")
            if number.low is not None and number.high is not None:
                error = [[height - 100 * number.low], [100 * number.high - height]]
                axes.errorbar(place + 0.4 * side - 0.2, height, error, color="#222222", capsize=3, linewidth=1)
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="x")
    labels = [*bars, *(f"paper:\n{name}" for name in FIGURE_7)]
    axes.set_xticks(range(len(names)), labels, fontsize=7)
    axes.set(ylabel="micro average precision (%)", ylim=(0, 100))
    about = (
        "plain: without hard negatives · hatched: with them · grey: the paper, on different data († trained on queries)"
    )
    axes.set_title(about, fontsize=7)
    return _save(figure, stem)


def draw_8(rows: Mapping[str, Sequence[Mapping[str, Any]]], dataset: Dataset, stem: Path) -> list[Path]:
    """Pairs of pictures (query left, reference right) with their norm ratio; one line per row of the data."""
    from matplotlib.figure import Figure

    shown = {name: pairs for name, pairs in rows.items() if pairs}
    columns = max((len(pairs) for pairs in shown.values()), default=1)
    figure = Figure(figsize=(2.2 * columns, 1.75 * max(1, len(shown))), layout="constrained")
    grid = figure.subplots(max(1, len(shown)), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, (name, pairs) in zip(grid, shown.items(), strict=False):
        line[0].set_title(name, fontsize=8, loc="left", fontweight="bold")
        for axes, pair in zip(line, pairs, strict=False):
            axes.imshow(_side_by_side(dataset, pair["query"], pair["reference"]))
            kind = STRATA[dataset.stratum[pair["query"]]].replace("_", " ")
            ratio = pair["query_over_reference"]
            digits = 4 if ratio != 1 and round(ratio, 2) == 1 else 2  # 1.00 would not show on which side of 1 it is
            text = f"query/reference {ratio:.{digits}f}" + ("" if kind == "none" else f", {kind}")
            axes.text(0.5, -0.02, text, transform=axes.transAxes, ha="center", va="top", fontsize=6)
    figure.supxlabel("each pair: query left, reference right, and the ratio of their norms", fontsize=7)
    return _save(figure, stem)


def _side_by_side(dataset: Dataset, query: int, reference: int, side: int = 160) -> np.ndarray:
    board = np.full((side, 2 * side + 8, 3), 255, np.uint8)
    for table, row, left in ((dataset.queries, query, 0), (dataset.references, reference, side + 8)):
        try:
            shown = table.slice(row, 1).to_pylist()[0]
            image = decode(read_image(dataset.resolve(shown["uri"]), shown["sha256"]), shown.get("rotation") or 0)
        except (DecodeError, OSError):
            continue
        image.thumbnail((side, side))
        pixels = np.asarray(image.convert("RGB"))
        top, start = (side - pixels.shape[0]) // 2, left + (side - pixels.shape[1]) // 2
        board[top : top + pixels.shape[0], start : start + pixels.shape[1]] = pixels
    return board


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value


def _save(figure: Figure, stem: Path) -> list[Path]:
    save = functools.partial(figure.savefig, format="png", dpi=150, metadata={"Software": None})
    with atomic_path(stem.with_suffix(".png")) as temporary:
        save(temporary)
    return [stem.with_suffix(".png"), write_text(stem.with_suffix(".svg"), svg_of(figure) + "\n")]
