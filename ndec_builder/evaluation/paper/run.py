"""`ndec benchmark --table 1|2` and `--figure 6|7|8`: tables and figures of the paper on your manifest."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ndec_builder.core.console import say
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import write_json, write_text
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors.methods import parse_methods
from ndec_builder.evaluation.metrics.bootstrap import Interval
from ndec_builder.evaluation.paper.figures import figure_6, figure_7, figure_8
from ndec_builder.evaluation.paper.gaps import Gaps
from ndec_builder.evaluation.paper.plots import draw_6, draw_7, draw_8
from ndec_builder.evaluation.paper.published import FIGURE_6, FIGURE_7, is_ndec
from ndec_builder.evaluation.paper.tables import SUBSETS_SHOWN, TableRow, table_1, table_2
from ndec_builder.evaluation.settings import AUTO, ONE_PER_QUERY, PaperConfig
from ndec_builder.evaluation.twins import settle_twins

RESULT_VERSION = 1
_COUNTS = {"tp", "fp"}
LEGEND = (
    "Values with their 95 % interval in brackets. Gains are paired differences to the row without the filter (table 1) "
    "or to `baseline` (table 2). Precision: cut at N, then filter without refill, over the remaining pairs. TP kept, "
    "FP kept: shares that the filter keeps. The numbers of the paper are for NDEC (N = 5,009) and its own networks."
)
HEADINGS = {"all": "all hard negatives", "natural": "natural hard negatives only",
            "reverse_crop": "reverse crops only", "without": "without hard negatives"}  # fmt: skip


@one_writer(lambda config: config.out or Workspace(config.workspace).report(config.name or _default_name(config)))
def run(config: PaperConfig) -> Path:
    """Make one table (markdown, csv, JSON) or figure (PNG, SVG, JSON); returns the folder, reports/<name>.

    Raises UsageError for settings that conflict, NdecError for data that cannot be evaluated, and GapsError (after all
    files are written) when more than `max_reject_share` of the images could not be used.
    """
    config.check()
    record = RunRecord("benchmark", config, RESULT_VERSION)
    assert config.manifest is not None
    workspace, dataset = Workspace(config.workspace), from_manifest(config.manifest)
    dataset, twins = settle_twins(config, workspace, dataset)
    if twins:
        say(twins)
    what = _default_name(config)
    out = config.out or workspace.report(config.name or what)
    facts = {
        "what": what,
        "dataset": dataset.name,
        "data": _data_note(dataset),
        "protocol": _protocol(config, dataset),
    }
    gaps = Gaps()
    if config.table is not None:
        rows = (table_1 if config.table == 1 else table_2)(config, workspace, dataset, gaps)
        write_text(out / f"{what}.md", as_markdown(rows, what, facts | gaps.facts, config))
        write_text(out / f"{what}.csv", as_csv(rows, ONE_PER_QUERY if config.one_per_query else ""))
        write_json(out / f"{what}.json", {**facts, **gaps.facts, "rows": [asdict(row) for row in rows]})
    elif config.figure == 6:
        curves = figure_6(config, workspace, dataset, gaps)
        draw_6(curves, out / what)
        published = [{"share": share, "uap_percent": value} for share, value in sorted(FIGURE_6.items())]
        drawn = {"curves": [asdict(curve) for curve in curves], "paper": published}
        write_json(out / f"{what}.json", {**facts, **gaps.facts, **drawn})
    elif config.figure == 7:
        bars = figure_7(config, workspace, dataset, gaps)
        draw_7(bars, out / what)
        named = {name: {key: asdict(number) for key, number in sides.items()} for name, sides in bars.items()}
        write_json(out / f"{what}.json", {**facts, **gaps.facts, "methods": named, "paper": FIGURE_7})
    else:
        gallery = figure_8(config, workspace, dataset, gaps)
        draw_8(gallery, dataset, out / what)
        write_json(out / f"{what}.json", {**facts, **gaps.facts, "rows": {
            name: [{**pair, "query": dataset.query_ids[pair["query"]],
                    "reference": dataset.reference_ids[pair["reference"]]} for pair in pairs]
            for name, pairs in gallery.items()}})  # fmt: skip
    record.write(out, counts={"queries": len(dataset.queries), "references": len(dataset.references)},
                 inputs={"dataset": dataset.fingerprint})  # fmt: skip
    say(f"wrote {out}")
    gaps.refuse(config.max_reject_share, dataset)
    return out


def _default_name(config: PaperConfig) -> str:
    return f"table{config.table}" if config.table else f"figure{config.figure}"


def as_markdown(rows: Sequence[TableRow], what: str, facts: dict[str, Any], config: PaperConfig) -> str:
    """The table next to the numbers of the paper, then a table per subset of the hard negatives."""
    lines = [f"# {'Table ' + what[-1]}: {facts['dataset']}", "", facts["data"], "", facts["protocol"], ""]
    lines += [line for note in facts.get("gaps", ()) for line in (f"**{note}**", "")]
    lines += [
        "| method | μAP % | TP | FP | precision % | μAP gain | precision gain | TP kept % | FP kept % "
        "| paper: μAP | TP | FP | precision | note |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        own = row.numbers["all"]
        paper = [f"{v}" for v in row.paper] if row.paper else ["–"] * 4
        cells = [row.name, *(_cell(name, own[name]) for name in ("uap", "tp", "fp", "precision")),
                 _cell("gain", row.uap_gain), _cell("gain", row.precision_gain),
                 _cell("tp_kept", own["tp_kept"]), _cell("fp_kept", own["fp_kept"]), *paper, row.note]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for subset in SUBSETS_SHOWN:
        if not all(subset in row.numbers for row in rows):
            continue
        lines += ["", f"## {HEADINGS[subset]}", ""]
        lines += ["| method | μAP % | TP | FP | precision % | filter AUC | R@P90 % |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            own = row.numbers[subset]
            names = ("uap", "tp", "fp", "precision", "filter_auc", "recall_at_p90")
            lines.append(f"| {' | '.join([row.name, *(_cell(name, own[name]) for name in names)])} |")
    return "\n".join([*lines, "", LEGEND]) + "\n"


def as_csv(rows: Sequence[TableRow], protocol: str = "") -> str:
    """One line per row, subset and number (long format). protocol: added to every note."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "note", "subset", "number", "value", "low", "high"])
    for row in [replace(row, note="; ".join(filter(None, (row.note, protocol)))) for row in rows]:
        for subset, numbers in row.numbers.items():
            for name, number in numbers.items():
                writer.writerow([row.name, row.note, subset, name, number.value, number.low, number.high])
        for name, number in (("uap_gain", row.uap_gain), ("precision_gain", row.precision_gain)):
            writer.writerow([row.name, row.note, "all", name, number.value, number.low, number.high])
        if row.paper:
            for name, value in row.paper._asdict().items():
                writer.writerow([row.name, row.note, "paper (NDEC)", name, value, None, None])
    return buffer.getvalue()


def _cell(name: str, number: Interval) -> str:
    """`49.3 (47.1 … 51.5)`; counts as integers, a dash if undefined."""
    if number.value is None:
        return "–"
    form = (
        "{:.0f}" if name in _COUNTS else "{:.3f}" if name == "filter_auc" else "{:+.1f}" if name == "gain" else "{:.1f}"
    )
    factor = 1 if name in _COUNTS or name == "filter_auc" else 100
    value, low, high = (None if x is None else form.format(factor * x) for x in (number.value, number.low, number.high))
    return f"{value}" if low is None else f"{value} ({low} … {high})"


def _data_note(dataset: Dataset) -> str:
    if is_ndec(len(dataset.queries), len(dataset.references), len(dataset.truth)):
        return "The counts match those of NDEC."
    note = (
        f"**Different data**: {len(dataset.queries):,} queries, {len(dataset.references):,} references, "
        f"{len(dataset.truth):,} ground-truth pairs, {int((dataset.stratum > 0).sum()):,} hard negatives – not NDEC. "
        "Compare the order and the differences of the paper's numbers, not their absolute values."
    )
    return f"{note} Labels by {dataset.labels_by}."


def _protocol(config: PaperConfig, dataset: Dataset) -> str:
    search = _search(config)
    if config.one_per_query:
        search += f"; {ONE_PER_QUERY}"
    above = "each checkpoint's own threshold" if config.threshold == AUTO else f"{config.threshold:g}"
    seeds = f"; {config.seeds} training seeds, seeds and groups resampled jointly" if config.table == 2 else ""
    return (
        f"Search: {search}. Filter: query_over_reference > {above} (strictly), scope "
        f"{config.scope}, action {config.action}. Intervals: 95 %, {config.replicates:,} bootstrap replicates over "
        f"{int(dataset.query_group.max()) + 1:,} groups of queries{seeds}."
    )


def _search(config: PaperConfig) -> str:
    """How the lists were made: by the settings, except for those that were given as a csv."""
    methods = parse_methods(config.method)
    lists = [f"{m.name}: as given in {m.source['predictions'].name}" for m in methods if "predictions" in m.source]
    if not lists or len(lists) < len(methods):
        found = f"k = {config.k} per query" if config.k else "global top 500,000, or all pairs where there are fewer"
        how = "raw cosine"
        if config.norm_factor:
            how = f"normalised scores (factor {config.norm_factor:g}, n = {config.norm_n}, {config.norm_kind})"
        lists = [f"{found}; {how}", *lists]
    return "; ".join(lists)
