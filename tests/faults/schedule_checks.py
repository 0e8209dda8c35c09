"""What must hold after each step of a random schedule, and at its end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from faults.labelling_bench import leftovers
from faults.schedule import Key, Said, Schedule
from ndec_builder.annotation.records.ledger import APPEND_ONLY
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import LABELS
from ndec_builder.core.workspace import Workspace


def check_rows(schedule: Schedule, step: str) -> None:
    """No table ever loses a row, or half a dataset appears, or a task is doubled."""
    for name in APPEND_ONLY:
        path = Workspace(schedule.bench.root).annotation("test") / f"{name}.parquet"
        table = pq.read_table(path, partitioning=None).to_pylist() if path.is_file() else []
        rows = [tuple(sorted(row.items())) for row in table]
        if rows[: len(schedule.rows[name])] != schedule.rows[name]:
            schedule.wrong.append(f"{name} lost rows in the step {step}")
        schedule.rows[name] = rows
    schedule.wrong += schedule.bench.doubled() + schedule.bench.damage()


def check_end(schedule: Schedule) -> None:
    """Everything is pushed and pulled. Then every answer must be stored, and the last one of each pair counts."""
    schedule.people = ["ann", "ben", "cat"]
    actor = schedule.random.choice(schedule.actors)
    for arguments in (schedule.push_arguments(), ("annotate", "pull", "--all"), ("annotate", "check")):
        ended = schedule.command(*arguments, actor=actor)
        if ended.code:
            schedule.wrong.append(f"the last {arguments[1]} ended with {ended.code}: {ended.text[-900:]}")
            return
        check_rows(schedule, "end")
    locks = [path for path in leftovers(schedule.bench.root / "annotation") if path.suffix == ".lock"]
    schedule.wrong += [f"left over: {path}" for path in locks]
    tables = AnnotationTables(Workspace(schedule.bench.root), "test")
    valid: dict[Key, str] = {(r["annotator"], r["pair_id"]): r["label"] for r in tables.valid_labels.to_pylist()}
    reported = Counter(
        ((r["annotator"], r["pair_id"]), r["kind"]) for r in tables.incidents.to_pylist()
    )  # fmt: skip
    stored = _stored(schedule, tables)
    for key in sorted({one.key for one in schedule.on_server} | set(stored)):
        _check_pair(schedule, key, valid.get(key), stored.get(key, []), reported)
    schedule.counts["answers"] += len(schedule.said)


def _stored(schedule: Schedule, tables: AnnotationTables) -> dict[Key, list[Said]]:
    """What the workspace knows of each pair, as the simulated annotators said it. A row without such is wrong."""
    by_identity = {(one.key, one.answer, one.at): one for one in schedule.said if one.answer != "deleted"}
    found: dict[Key, list[Said]] = {}
    for row in tables.labels.to_pylist():
        key = (row["annotator"], row["pair_id"])
        one = by_identity.get((key, row["label"], _time(row["annotated_at"])))
        if one is None:
            schedule.wrong.append(f"a label that nobody gave: {row}")
            continue
        found.setdefault(key, []).append(one)
    for row in tables.skips.to_pylist():
        key = (row["annotator"], row["pair_id"])
        if row["kind"] == "skipped":
            found.setdefault(key, []).append(by_identity[key, None, _time(row["at"])])
        elif row["kind"] == "deleted":
            last = max((one.number for one in found.get(key, [])), default=-1)
            # by a deletion, or by a skip that a later copy of the workspace knew: the pair was given out again
            gone = [one for one in schedule.said if one.key == key and one.answer not in LABELS]
            if not gone:
                schedule.wrong.append(f"{key} was withdrawn, and nobody did that")
            found.setdefault(key, []).extend([one for one in gone if one.number > last][:1])
    return found


def _check_pair(schedule: Schedule, key: Key, valid: str | None, stored: list[Said], reported: Counter[Any]) -> None:
    current = next((one for one in reversed(schedule.on_server) if one.key == key), None)
    unstored = current is not None and current.answer in LABELS and current not in stored
    newer = current is not None and any(one.number > current.number for one in stored)
    if unstored and not newer and schedule.clocks_changed and reported[key, "label_older"]:
        schedule.counts["answers in an older database that were not believed, reported"] += 1
        return
    if unstored and not newer and valid != current.answer:  # an equal label needs no row of its own
        schedule.wrong.append(f"{key}: {current} is not stored; {stored}")
        return
    known = [*stored, *([current] if current is not None else [])]
    if not known:
        return
    last = max(known, key=lambda one: one.number)
    wanted = last.answer if last.answer in LABELS else None
    if valid == wanted:
        return
    if wanted is None and valid is not None:
        if reported[key, "label_missing"]:
            schedule.counts["deletions in an older database that were not believed, reported"] += 1
        elif current is not None and current.number < last.number:
            schedule.counts["withdrawn labels that an older database brought back"] += 1
        else:
            schedule.wrong.append(f"{key}: {last} was withdrawn, and {valid} counts")
    elif schedule.clocks_changed and reported[key, "annotation_changed"]:
        schedule.counts["older answers taken as corrections, reported"] += 1
    elif schedule.clocks_changed and reported[key, "label_older"]:
        schedule.counts["answers in an older database that were not believed, reported"] += 1
    else:
        schedule.wrong.append(f"{key}: {valid} counts instead of {last}; stored {stored}; server {current}")


def _time(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")
