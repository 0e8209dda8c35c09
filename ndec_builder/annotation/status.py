"""`ndec annotate status`: who has labelled how much and how fast, from the workspace's tables (as of the last pull)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.assignment.queues import pairs_to_label
from ndec_builder.annotation.assignment.replaced_pairs import removed_text, replaced_text, set_back
from ndec_builder.annotation.assignment.undecided_queries import pairs_left_out
from ndec_builder.annotation.decisions.annotator_quality import annotator_report, pace
from ndec_builder.annotation.decisions.audit import Audit, current_audit
from ndec_builder.annotation.decisions.audit_text import audit_text
from ndec_builder.annotation.label_tables import copy_probabilities, keys
from ndec_builder.annotation.records.given_labels import waiting_text
from ndec_builder.annotation.records.skips import waiting_skips
from ndec_builder.annotation.settings import StatusConfig
from ndec_builder.annotation.stopping.progress import certificate_progress, certificate_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.storage import read_json
from ndec_builder.core.vocabulary import FILE_SOURCE
from ndec_builder.core.workspace import Workspace


def status(config: StatusConfig) -> list[dict[str, Any]]:
    """One row per round and annotator: pairs, done, left, skipped (pairs that this annotator does not decide),
    labels_per_hour (null before the second label), hours_left, median_seconds, gold (accuracy on gold pairs, all rounds
    together), and flags in words. Labels that were withdrawn or sent back do not count. It works on columns, without a
    dict per row: 150,000 pairs take about a second.
    """
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    if not (tables.directory / "tasks.parquet").is_file() and (waiting := waiting_text(tables)):
        raise NdecError(f"no pair of the split {config.split!r} has been given to an annotator yet; {waiting[0]}")
    tasks, labels = tables.require_tasks(), tables.counting_labels
    given = _by_rater(labels)
    people = {row["annotator"]: row for row in annotator_report(labels, tables.gold_truth())}
    open_skips, later = waiting_skips(tables.skipped, tasks), set_back(tables)
    if removed := tables.shown.removed:
        later |= {key for key in keys(tasks) if key[0] in removed} - tables.labelled - open_skips
    rows = []
    counts = {key: len(own) for key, own in _by_rater(tasks).items()}
    for round_, annotator in sorted(counts, key=lambda rater: (ROUNDS.index(rater[0]), rater[1])):
        own = labels.take(pa.array(given.get((round_, annotator), np.zeros(0, np.int64))))
        done = pc.count_distinct(own["pair_id"]).as_py()
        skipped = sum(key[1:] == (round_, annotator) for key in open_skips)
        wait = sum(key[1:] == (round_, annotator) for key in later)
        left, speed = max(counts[round_, annotator] - done - skipped - wait, 0), _speed(own["annotated_at"])
        person = people.get(annotator)
        flags = list(person["flags"]) if person else []
        if annotator.startswith(FILE_SOURCE):
            flags.insert(0, "came with that file, not given here")
        seconds = pc.drop_null(own["seconds"]).to_numpy()
        rows.append(
            {"split": config.split, "round": round_, "annotator": annotator, "pairs": counts[round_, annotator],
             "done": done, "left": left, "skipped": skipped, "labels_per_hour": speed,
             "hours_left": round(left / speed, 1) if speed else None,
             "median_seconds": round(float(np.median(seconds)), 1) if len(seconds) else None,
             "gold": person["gold"] if person else None, "flags": "; ".join(flags)}
        )  # fmt: skip
    return rows


def audit_and_clearing(config: StatusConfig) -> dict[str, Any]:
    """The audit and the certificate as of the last pull (null before there is one), and auto-clearing as of the last
    `resolve`.
    """
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    agreed = tables.directory / "agreement.json"
    audit = current_audit(tables.directory, tables.counting_labels, tables.options, tables.skips)
    if audit is None:
        hard = pc.sum(pc.equal(tables.decisions["decision"], "hard_negative")).as_py() or 0
        audit = Audit(hard, 0, 0, 0, 0, None) if hard else None
    cleared = read_json(agreed).get("auto_clear") if agreed.is_file() else None
    return {"audit": audit, "auto_clear": cleared, "certificate": certificate_progress(tables)}


def former_text(config: StatusConfig) -> list[str]:
    """One line each: labelled pairs that are no longer mined or whose image was removed, labels of files that wait,
    mined pairs nobody got.
    """
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    return [
        *replaced_text(tables),
        *tables.former_text(),
        *removed_text(tables),
        *(waiting_text(tables) or unassigned_text(tables)),
    ]


def unassigned_text(tables: AnnotationTables) -> list[str]:
    """A line about mined pairs that no push has given to anybody, and one about those that the last push of the first
    round left out on purpose; none once a certificate names the pairs that need a label.
    """
    waiting, left = unassigned_pairs(tables)
    found = (
        (waiting, f"given to nobody yet: `ndec annotate push --split {tables.split}`"),
        (left, "left out by the settings of the last push (below, keepable or finish_queries)"),
    )
    return [f"{number_of(number, 'mined pair')} {what}" for number, what in found if number]


def unassigned_pairs(tables: AnnotationTables) -> tuple[int, int]:
    """How many mined pairs for people nobody was given: (a push like the last one gives them out, it leaves them out).

    As of the last `resolve`. Both are 0 once there is a certificate.
    """
    if not tables.mined or tables.certificate:
        return 0, 0
    mined = pa.concat_tables(tables.mined)
    given = pa.concat_arrays([part for table in (tables.tasks, tables.cleared) for part in table["pair_id"].chunks])
    ours = pc.and_(pc.is_null(mined["duplicate_of"]), pc.invert(pc.is_in(mined["pair_id"], value_set=given)))
    pairs = set(mined.filter(ours)["pair_id"].to_pylist())
    out: set[str] = set()
    if pairs and tables.options.narrowing:
        every, chances = pairs_to_label(tables.candidates), copy_probabilities(tables.candidates)
        out = pairs_left_out(every, lambda: tables.decisions, chances, **tables.options.narrowing)
    return len(pairs - out), len(pairs & out)


def _by_rater(table: pa.Table) -> dict[tuple[str, str], np.ndarray]:
    """Row numbers of each (round, annotator)."""
    keyed = (
        table.select(["round", "annotator"])
        .unify_dictionaries()
        .append_column("row", pa.array(np.arange(table.num_rows)))
    )
    groups = keyed.group_by(["round", "annotator"]).aggregate([("row", "list")])
    return {(row["round"], row["annotator"]): np.array(row["row_list"], np.int64) for row in groups.to_pylist()}


def _speed(moments: pa.ChunkedArray) -> float | None:
    """Labels per hour of work by Label Studio's clock; None if there is nothing to measure."""
    return pace(moments.cast(pa.int64()).to_numpy())


def finish_text(rows: list[dict[str, Any]]) -> str:
    """Tasks left, and how long the last annotator still works at the current speeds; all work in parallel."""
    left = sum(row["left"] for row in rows)
    hours: dict[str, float] = {}
    for row in rows:
        if row["left"] and row["hours_left"] is not None:
            hours[row["annotator"]] = hours.get(row["annotator"], 0.0) + row["hours_left"]
    text = f"{left:,} of {number_of(sum(row['pairs'] for row in rows), 'task')} left"
    if skipped := sum(row.get("skipped", 0) for row in rows):
        text += f"; {skipped:,} skipped, which the next push of their round gives to someone else"
    if not left or not hours:
        return text
    last = max(sorted(hours), key=lambda name: hours[name])
    unknown = sorted({row["annotator"] for row in rows if row["left"] and row["hours_left"] is None})
    but = f"; the speed of {', '.join(unknown)} is not known yet" if unknown else ""
    more = f"{hours[last]:.1f} more hours" if hours[last] >= 0.1 else "a few more minutes"
    return f"{text}; at the current speeds the last ({last}) is done after {more} of work{but}"


def findings_text(found: dict[str, Any]) -> list[str]:
    """One line each for the certificate, the audit and auto-clearing, if there are any."""
    lines = [certificate_text(found["certificate"])] if found.get("certificate") else []
    lines += [audit_text(found["audit"])] if found["audit"] else []
    if cleared := found["auto_clear"]:
        text = f"auto-cleared as edited copies: {number_of(cleared['pairs'], 'pair')}"
        lines.append(text + (f"; refused now: {cleared['refused']}" if cleared["refused"] else ""))
    return lines


def status_text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table for the terminal."""
    names = [
        "round",
        "annotator",
        "pairs",
        "done",
        "left",
        "skipped",
        "labels_per_hour",
        "hours_left",
        "median_seconds",
    ]
    cells = [[*names, "gold_right", "flags"]]
    for row in rows:
        values = ["-" if row[name] is None else str(row[name]) for name in names]
        cells.append([*values, _accuracy(row["gold"]), row["flags"]])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _accuracy(gold: dict[str, Any] | None) -> str:
    """Gold pairs labelled right, with the 95 % interval of the share."""
    if not gold or not gold["n"]:
        return "-"
    return f"{gold['right']}/{gold['n']} ({gold['low']:.0%}–{gold['high']:.0%})"
