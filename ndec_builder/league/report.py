"""`report.html` of a league: one self-contained page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ndec_builder.core.storage import write_text
from ndec_builder.evaluation.plotting import reliability_diagram
from ndec_builder.league.disagreements import disagreements
from ndec_builder.league.figures import dumbbells, small_curve
from ndec_builder.league.settings import LeagueConfig
from ndec_builder.league.standings import League
from ndec_builder.league.table import (
    AT_THRESHOLD,
    COLUMNS,
    calibration_text,
    cell,
    cpu_text,
    ranked,
    threshold_text,
    used,
)


def write_league_report(out: Path, result: dict[str, Any], league: League, config: LeagueConfig) -> Path:
    """Write the page and `figures/dumbbells.svg`. result: the content of league.json."""
    import jinja2

    rows = ranked(result["detectors"])
    able = [row for row in rows if row["numbers"]]
    figure = dumbbells(able)
    write_text(out / "figures" / "dumbbells.svg", figure)
    thresholds = {row["name"]: row["tuned"] if row["tuned"] is not None else row["default"] for row in able}
    votes = {name: value for name, value in thresholds.items() if value is not None}
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(f"ndec_builder.{place}", ".") for place in ("league", "evaluation.report")]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("league.html.j2").render(
        result=result, able=able, absent=[row for row in rows if not row["numbers"]], dumbbells=figure,
        columns=used(COLUMNS, able), at={w: used(AT_THRESHOLD, able, f"{w}/") for w in ("default", "tuned")},
        curves={row["name"]: small_curve(league.lists[row["name"]]) for row in able},
        reliability={
            row["name"]: reliability_diagram(row["calibration"]["bins"], (3.0, 2.6))
            for row in able if row["calibration"]
        },
        edits=list(dict.fromkeys(name for row in able for name in row["by_edit"] or ())),
        pairs=disagreements(league.data["untouched"], league.found, votes, config.gallery, config.pictures),
        cell=cell, cpu_text=cpu_text, threshold_text=threshold_text, calibration_text=calibration_text,
        alt=_alt(able),
    )  # fmt: skip
    return write_text(out / "report.html", page)


def _alt(rows: list[Any]) -> str:
    """The dumbbell plot in words."""
    ends = [
        f"{row['name']} {cell(row, 'all/uap', 2)[0]} with and {cell(row, 'without/uap', 2)[0]} without" for row in rows
    ]
    return f"Micro average precision with and without hard negatives: {'; '.join(ends)}."
