"""Moves open pairs between annotators' projects: for `ndec annotate leave`, and when a push names new annotators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from ndec_builder.annotation.assignment.gold_pairs import in_place_of, make_gold
from ndec_builder.annotation.assignment.queues import TaskRow
from ndec_builder.annotation.assignment.reassign import reassign, rows_for_newcomers
from ndec_builder.annotation.assignment.replaced_pairs import former_keys, set_back
from ndec_builder.annotation.assignment.rounds import involved_in
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.annotations import named_pair
from ndec_builder.annotation.label_studio.connection import Connection, explain_errors
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot
from ndec_builder.annotation.label_studio.task_sync import delete_open_tasks
from ndec_builder.annotation.label_tables import keys, of_people
from ndec_builder.annotation.records.gold_truth import GoldOverTime
from ndec_builder.annotation.records.pictures import is_former, pair_of, tag_of
from ndec_builder.annotation.records.skips import OFFERED_AGAIN, label_states
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import SKIPS, table_of


def share_with_newcomers(config: PushConfig, tables: AnnotationTables, connection: Connection) -> None:
    """Move open pairs of the current annotators to those who are new to the round."""
    snapshot, rows = ServerSnapshot(tables), of_people(tables.tasks).to_pylist()
    people = list(dict.fromkeys([r["annotator"] for r in rows if r["round"] == config.round] + list(config.annotators)))
    known = [name for name in people if snapshot.projects_of((config.round, name))]
    newcomers = [name for name in config.annotators if name not in known]
    if not known or not newcomers:
        return
    finished, involved = tables.labelled | tables.skipped, involved_in(tables)
    given = rows_for_newcomers(rows, finished, config.round, newcomers, people, involved)
    for donor, chosen in given.items():
        assignee = (config.round, donor)
        free = withdraw_tasks(tables, connection, assignee, chosen)
        pull_labels(tables, connection)
        free = [row for row in free if (row["pair_id"], *assignee) not in tables.labelled]
        result = reassign(tables.tasks, free, newcomers, tables.labelled, involved)
        tables.write("tasks", result.tasks)
        say(f"{number_of(result.moved, 'open pair moves', 'open pairs move')} from {donor} to {', '.join(newcomers)}")


def offer_skipped(config: PushConfig, tables: AnnotationTables, connection: Connection) -> Counter[str]:
    """Give the pairs of this round that somebody skipped to another annotator; returns counts of offered and again.

    Label Studio never offers a skipped task to the same person again. The other annotators of the round, except those
    who left, get the pair if they have not seen it. If nobody else is there, the same annotator gets it as a new task.
    """
    mine = [row for row in of_people(tables.tasks).to_pylist() if row["round"] == config.round]
    rows = [row for row in mine if (row["pair_id"], config.round, row["annotator"]) in tables.skipped]
    if not rows:
        return Counter()
    free: list[TaskRow] = []
    for name in sorted({row["annotator"] for row in rows}):
        own = [row for row in rows if row["annotator"] == name]
        free += withdraw_tasks(tables, connection, (config.round, name), own)
        pull_labels(tables, connection)  # the last labels: the file that announces a handover names one project
    free = [row for row in free if (row["pair_id"], config.round, row["annotator"]) in tables.skipped]
    people = {*config.annotators, *(row["annotator"] for row in mine)} - {*tables.options.left} | {*config.annotators}
    result = reassign(tables.tasks, free, sorted(people), tables.labelled, involved_in(tables))
    tables.write("tasks", result.tasks)
    _record_offered_again(tables, result.stuck)
    say(
        f"{number_of(len(free), 'skipped pair')} handed out again: {result.moved} to another annotator, "
        f"{len(result.stuck)} to the same one (nobody else may label them); {result.dropped} not, because a second "
        "annotator has them or they are gold pairs"
    )
    return Counter(offered=result.moved, again=len(result.stuck), dropped=result.dropped)


def _record_offered_again(tables: AnnotationTables, rows: Sequence[TaskRow]) -> None:
    """The same annotators get these pairs again: they are open, not skipped."""
    states, now = label_states(tables.labels, tables.skips), datetime.now(UTC)
    given = [
        {"kind": OFFERED_AGAIN, "seen_at": now, "pair_id": row["pair_id"], "round": row["round"],
         "annotator": row["annotator"],
         "label_rows": states[row["pair_id"], row["round"], row["annotator"]].rows}
        for row in rows
    ]  # fmt: skip
    if given:
        tables.write("skips", pa.concat_tables([tables.skips, table_of(SKIPS, given)]))


def withdraw_replaced(tables: AnnotationTables, connection: Connection) -> Counter[str]:
    """Delete the open tasks, of all rounds, whose picture was replaced or removed since; counts them by this word.

    A label that was given in the meantime stays, as a label of the old pictures, and is pulled. The next sync imports
    the new tasks of those that were replaced. If any picture was ever replaced, this pulls even without such tasks:
    after a kill, the same command must know as much as one that was not killed.
    """
    touched, client, counts = tables.shown.touched, connection.client(), Counter[str]()
    if not touched:
        return counts
    with explain_errors(connection, "looking for ndec's projects"):
        found = projects.find_projects(client)
    people = keys(of_people(tables.tasks), "round", "annotator", "pair_id")
    for assignee in sorted({(round_, name) for round_, name, pair in people if pair in touched}):
        if (project := found.get(projects.project_key(tables.workspace, tables.split, *assignee))) is None:
            continue
        old: dict[int, str] = {}
        with explain_errors(connection, "listing tasks"):
            for task in client.tasks.list(project=project.id, page_size=1000, include="id,data,total_annotations"):
                pair = named_pair(task) or ""
                question = tables.shown.question(pair, tag_of(task.data))
                if (is_former(question) or pair in tables.shown.removed) and not task.total_annotations:
                    old[task.id] = pair
        if old:
            server_snapshot.announce_handover(tables.directory, project.id, set(old.values()))
            with explain_errors(connection, "withdrawing tasks of replaced pictures"):
                delete_open_tasks(client, project.id, list(old))
            pull_labels(tables, connection)  # the last labels: the file that announces a handover names one project
            counts.update("removed" if pair in tables.shown.removed else "replaced" for pair in old.values())
    if not counts:
        pull_labels(tables, connection)
    return counts


def replace_lost_gold(config: PushConfig, tables: AnnotationTables, connection: Connection) -> None:
    """Take back the gold pairs without a label, of all rounds, whose reference was replaced or removed since.

    They would show a placeholder, or a picture about which their truth says nothing. Another gold pair goes to the same
    place of the same queue, if one can be made.
    """
    lost = GoldOverTime(tables.workspace, tables.split, tables.gold).lost()
    rows = _unlabelled(tables, [row for row in of_people(tables.tasks).to_pylist() if row["pair_id"] in lost])
    if not rows:
        return
    free: list[TaskRow] = []
    for assignee in sorted({(row["round"], row["annotator"]) for row in rows}):
        own = [row for row in rows if (row["round"], row["annotator"]) == assignee]
        free += withdraw_tasks(tables, connection, assignee, own)
        pull_labels(tables, connection)  # the last labels: the file that announces a handover names one project
    free = _unlabelled(tables, free)
    gone = {(row["pair_id"], row["round"], row["annotator"]) for row in free}
    kept = tables.tasks.filter(pa.array([key not in gone for key in keys(tables.tasks)], pa.bool_()))
    needed = Counter(row["annotator"] for row in free)
    needed.update(
        name
        for pair, name, is_gold in keys(kept, "pair_id", "annotator", "is_gold")
        if is_gold and pair not in lost and name in needed
    )
    try:
        gold = make_gold(tables, max(needed.values(), default=0), config.gold_seed)
    except NdecError as error:
        say(str(error))
        gold = make_gold(tables, 0, config.gold_seed)  # the existing ones
    others = in_place_of(free, gold, tables.tasks)
    tables.write("tasks", pa.concat_tables([kept, others]))
    say(
        f"{number_of(len(free), 'gold pair')} without a label, whose reference was replaced or removed: taken back, "
        f"and another one took the place of {others.num_rows}"
    )


def _unlabelled(tables: AnnotationTables, rows: Sequence[TaskRow]) -> list[TaskRow]:
    done = set(keys(tables.valid_labels)) if rows else set()
    return [row for row in rows if (row["pair_id"], row["round"], row["annotator"]) not in done]


def move_from_left(config: PushConfig, tables: AnnotationTables) -> None:
    """Pairs to ask again whose annotator left go to the others of the round."""
    again, left = former_keys(tables) - set_back(tables, config.round), {*tables.options.left}
    mine = [row for row in of_people(tables.tasks).to_pylist() if row["round"] == config.round]
    rows = [
        row for row in mine if row["annotator"] in left and (row["pair_id"], config.round, row["annotator"]) in again
    ]
    if not rows:
        return
    people = sorted({*config.annotators, *(row["annotator"] for row in mine)} - left)
    result = reassign(tables.tasks, rows, people, tables.labelled, involved_in(tables))
    tables.write("tasks", result.tasks)
    say(
        f"{number_of(len(rows), 'labelled pair')} of people who left, with a picture that was replaced: {result.moved} "
        f"go to others, {result.dropped} have another annotator, {len(result.stuck)} stay (nobody else may label them)"
    )


def withdraw_tasks(
    tables: AnnotationTables, connection: Connection, assignee: Assignee, rows: Sequence[TaskRow]
) -> list[TaskRow]:
    """Delete these open pairs from an annotator's project; returns the rows that have no task there now.

    Only tasks without a label are deleted, so a pair that was labelled in the meantime stays and is not returned.
    """
    client = connection.client()
    with explain_errors(connection, "looking for ndec's projects"):
        project = projects.find_projects(client).get(projects.project_key(tables.workspace, tables.split, *assignee))
    if project is None or not rows:
        return list(rows)
    snapshot = ServerSnapshot(tables)
    wanted = {row["pair_id"] for row in rows}
    server_snapshot.announce_handover(tables.directory, project.id, wanted)
    held = snapshot.tasks_of(project.id).items()
    numbers = [number for number, row in held if row.pair_id is not None and pair_of(row.pair_id) in wanted]
    with explain_errors(connection, "withdrawing open pairs"):
        delete_open_tasks(client, project.id, numbers)
    left = set()
    with explain_errors(connection, "listing tasks"):
        for task in client.tasks.list(project=project.id, page_size=1000, include="id,data"):
            tag = tag_of(task.data)
            question = snapshot.question(named_pair(task), tag)  # a labelled one of replaced pictures stays
            left.add(question)
            snapshot.add_task(assignee, project.id, task.id, question, tag)
    known = snapshot.tasks_of(project.id)
    for number in [number for number in numbers if known[number].pair_id not in left]:
        del known[number]
    snapshot.write()
    return [row for row in rows if row["pair_id"] not in left]
