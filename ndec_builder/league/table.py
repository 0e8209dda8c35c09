"""The league as a table: the same cells for markdown and for the report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (  # key of a row's numbers, heading, number of decimals
    ("all/uap", "μAP with hard negatives", 2),
    ("without/uap", "μAP without", 2),
    ("all/recall_at_p90", "recall at precision 90 %", 2),
    ("without/recall_at_p90", "… without", 2),
    ("all/recall_at_p99", "recall at precision 99 %", 2),
    ("without/recall_at_p99", "… without", 2),
)
AT_THRESHOLD = (
    ("recall", "recall", 2),
    ("precision", "precision", 2),
    ("false_all", "false matches per 1,000 references", 1),
    ("false_without", "… without hard negatives", 1),
    ("false_natural", "… of natural look-alikes", 1),
    ("false_reverse_crop", "… of reverse crops", 1),
)


def ranked(detectors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those with numbers, the best μAP with hard negatives first, then those that could not run."""
    return sorted(detectors, key=lambda row: (not row["numbers"], -(_value(row, "all/uap") or 0.0), row["name"]))


def used(columns: Sequence[tuple[str, str, int]], rows: Sequence[Mapping[str, Any]], prefix: str = "") -> list[Any]:
    """The columns that exist in the data of at least one row."""
    return [column for column in columns if any(prefix + column[0] in row["numbers"] for row in rows)]


def cell(row: Mapping[str, Any], key: str, decimals: int) -> tuple[str, str]:
    """Value and interval as text; a dash if undefined."""
    number = row["numbers"].get(key)
    if number is None or number["value"] is None:
        return "–", ""
    value, low, high = (None if number[k] is None else f"{number[k]:.{decimals}f}" for k in ("value", "low", "high"))
    return str(value), "" if low is None else f"{low} … {high}"


def threshold_text(row: Mapping[str, Any], which: str) -> str:
    """`31 (ThreatExchange …)`, or why there is none. Distances are shown as the tool counts them."""
    value = row[which]
    if value is None:
        return row["default_source"] or "none" if which == "default" else "no score reaches the precision"
    shown = f"{abs(value) if row['distances'] else value:.4g}"
    return f"{shown}: {row['default_source']}" if which == "default" and row["default_source"] else shown


def cpu_text(row: Mapping[str, Any], key: str) -> str:
    value = row["cpu"].get(key)
    return "–" if value is None else f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def league_markdown(result: Mapping[str, Any]) -> str:
    """`league.md`: the tables for a README or an issue."""
    rows = ranked(result["detectors"])
    able = [row for row in rows if row["numbers"]]
    about = result["dataset"]
    lines = [
        f"# League on {about['name']}", "",
        f"{about['queries']:,} queries ({about['copies']:,} copies, {about['natural_hard_negatives']:,} natural "
        f"look-alikes, {about['reverse_crop_hard_negatives']:,} reverse crops) × {about['references']:,} references · "
        f"labels by: {about['labels_by']}", "", result["protocol"], "",
    ]  # fmt: skip
    columns = used(COLUMNS, able)
    lines += _table(
        ["detector", *(heading for _, heading, _ in columns), "CPU s per 1,000 images", "CPU s per million pairs"],
        [
            [_name(row), *(" ".join(_joined(cell(row, key, n))) for key, _, n in columns),
             cpu_text(row, "per_1000_images"), cpu_text(row, "per_million_pairs")]
            for row in able
        ],
    )  # fmt: skip
    target = f"{result['target_precision']:.0%}"
    for which, title in (
        ("default", "At the detector's own default threshold"),
        ("tuned", f"At the threshold tuned for precision ≥ {target} on the tuning half"),
    ):
        columns = used(AT_THRESHOLD, able, f"{which}/")
        lines += ["", f"## {title}", ""]
        lines += _table(
            ["detector", "threshold", *(heading for _, heading, _ in columns)],
            [
                [row["name"], threshold_text(row, which),
                 *(" ".join(_joined(cell(row, f"{which}/{key}", n))) for key, _, n in columns)]
                for row in able
            ],
        )  # fmt: skip
    lines += ["", "## What each cannot find, calibration, notes", ""]
    lines += _table(
        ["detector", "edits with recall below 25 % (95 % interval)", "calibration error", "notes"],
        [
            [row["name"], ", ".join(row["blind"]) or "–", calibration_text(row),
             "; ".join(text for text in (row["limits"], *row["notes"]) if text)]
            for row in able
        ],
    )  # fmt: skip
    absent = [row for row in rows if not row["numbers"]]
    if absent:
        lines += ["", "## Could not run", ""]
        lines += _table(["detector", "version", "reason"], [[r["name"], r["version"], r["problem"]] for r in absent])
    return "\n".join(lines) + "\n"


def calibration_text(row: Mapping[str, Any]) -> str:
    """`0.04, 0.06 as given`: of the fit on the tuning half, and of scores that are probabilities already."""
    found = row["calibration"]
    if found is None:
        return "–"
    raw = f", {found['ece_raw']:.2f} as given" if "ece_raw" in found else ""
    return f"{found['ece']:.2f}{raw}"


def _name(row: Mapping[str, Any]) -> str:
    return f"**{row['name']}** {row['version']}".strip()


def _joined(texts: tuple[str, str]) -> list[str]:
    value, interval = texts
    return [value, f"[{interval.replace(' … ', ', ')}]"] if interval else [value]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]


def _value(row: Mapping[str, Any], key: str) -> float | None:
    number = row["numbers"].get(key)
    return None if number is None else number["value"]
