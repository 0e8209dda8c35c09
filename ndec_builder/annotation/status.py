"""`ndec annotate status`: who has labelled how much and how fast, from the workspace's tables (as of the last pull)."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.annotator_quality import annotators
from ndec_builder.annotation.decisions.audit import Audit, live
from ndec_builder.annotation.decisions.audit import as_text as audit_text
from ndec_builder.annotation.settings import StatusConfig
from ndec_builder.annotation.tables import counting_labels, gold_truth, read_tasks
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace

_PAUSE_SECONDS = 300.0  # a longer gap between two labels is a break, not work


def status(config: StatusConfig) -> list[dict[str, Any]]:
    """One row per round and annotator: pairs, done, left, labels_per_hour (null before the second label), hours_left,
    median_seconds, gold (accuracy on gold pairs, all rounds together), and flags in words. Labels that were sent back
    do not count. Column by column: 150,000 pairs take about a second.
    """
    workspace = Workspace(config.workspace)
    tasks, labels = read_tasks(workspace, config.split), counting_labels(workspace, config.split)
    given = _by_rater(labels)
    people = {row["annotator"]: row for row in annotators(labels, gold_truth(workspace, config.split))}
    rows = []
    counts = {key: len(own) for key, own in _by_rater(tasks).items()}
    for round_, annotator in sorted(counts, key=lambda rater: (ROUNDS.index(rater[0]), rater[1])):
        own = labels.take(pa.array(given.get((round_, annotator), np.zeros(0, np.int64))))
        done = pc.count_distinct(own["pair_id"]).as_py()
        left, speed = max(counts[round_, annotator] - done, 0), _speed(own["annotated_at"])
        person = people.get(annotator)
        seconds = pc.drop_null(own["seconds"]).to_numpy()
        rows.append(
            {"split": config.split, "round": round_, "annotator": annotator, "pairs": counts[round_, annotator],
             "done": done, "left": left, "labels_per_hour": speed,
             "hours_left": round(left / speed, 1) if speed else None,
             "median_seconds": round(float(np.median(seconds)), 1) if len(seconds) else None,
             "gold": person["gold"] if person else None, "flags": "; ".join(person["flags"]) if person else ""}
        )  # fmt: skip
    return rows


def found_so_far(config: StatusConfig) -> dict[str, Any]:
    """The audit as of the last pull (null before there are decisions), and what is auto-cleared as of `resolve`."""
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    decisions, agreed = directory / "decisions.parquet", directory / "agreement.json"
    audit = live(directory, counting_labels(workspace, config.split))
    if audit is None and decisions.is_file():
        hard = pc.sum(pc.equal(read_table(decisions, ["decision"])["decision"], "hard_negative")).as_py() or 0
        audit = Audit(hard, 0, 0, 0, 0, None) if hard else None
    return {"audit": audit, "auto_clear": read_json(agreed).get("auto_clear") if agreed.is_file() else None}


def _by_rater(table: pa.Table) -> dict[tuple[str, str], np.ndarray]:
    """Row numbers of each (round, annotator)."""
    keyed = table.select(["round", "annotator"]).append_column("row", pa.array(np.arange(table.num_rows)))
    groups = keyed.group_by(["round", "annotator"]).aggregate([("row", "list")])
    return {(row["round"], row["annotator"]): np.array(row["row_list"], np.int64) for row in groups.to_pylist()}


def _speed(moments: pa.ChunkedArray) -> float | None:
    """`labels_per_hour` of a column of times, without a Python object for each."""
    gaps = np.diff(np.sort(moments.cast(pa.int64()).to_numpy())) / 1e6
    working = gaps[gaps <= _PAUSE_SECONDS]
    return round(3600 * len(working) / float(working.sum()), 1) if working.sum() > 0 else None


def labels_per_hour(moments: list[datetime]) -> float | None:
    """Labels per hour of work: gaps above five minutes are breaks. None when there is no gap to measure."""
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(sorted(moments))]
    working = [gap for gap in gaps if gap <= _PAUSE_SECONDS]
    return round(3600 * len(working) / sum(working), 1) if sum(working) > 0 else None


def finish(rows: list[dict[str, Any]]) -> str:
    """Pairs left, and how long the slowest person still works at the present speed; people work beside each other."""
    left = sum(row["left"] for row in rows)
    hours: dict[str, float] = {}
    for row in rows:
        if row["hours_left"] is not None:
            hours[row["annotator"]] = hours.get(row["annotator"], 0.0) + row["hours_left"]
    text = f"{left:,} of {sum(row['pairs'] for row in rows):,} pairs left"
    if not left or not hours:
        return text
    last = max(sorted(hours), key=lambda name: hours[name])
    unknown = sorted({row["annotator"] for row in rows if row["left"] and row["hours_left"] is None})
    but = f"; no speed known yet of {', '.join(unknown)}" if unknown else ""
    return f"{text}; at the present speeds the last ({last}) is done after {hours[last]:.1f} more hours of work{but}"


def findings(found: dict[str, Any]) -> list[str]:
    """The audit and auto-clearing in a line each; nothing of what there is not."""
    lines = [audit_text(found["audit"])] if found["audit"] else []
    if cleared := found["auto_clear"]:
        text = f"auto-cleared as edited copies: {cleared['pairs']:,} pairs"
        lines.append(text + (f"; refused now: {cleared['refused']}" if cleared["refused"] else ""))
    return lines


def as_text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table for the terminal."""
    names = ["round", "annotator", "pairs", "done", "left", "labels_per_hour", "hours_left", "median_seconds"]
    cells = [[*names, "gold_right", "flags"]]
    for row in rows:
        values = ["-" if row[name] is None else str(row[name]) for name in names]
        cells.append([*values, _accuracy(row["gold"]), row["flags"]])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _accuracy(gold: dict[str, Any] | None) -> str:
    """Gold pairs right, with the 95 % interval of the share."""
    if not gold or not gold["n"]:
        return "-"
    return f"{gold['right']}/{gold['n']} ({gold['low']:.0%}–{gold['high']:.0%})"
