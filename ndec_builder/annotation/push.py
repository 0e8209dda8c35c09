"""`ndec annotate push | double-check | adjudicate | audit`: assign pairs, then bring them to Label Studio."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.assignment.gold_pairs import gold_needed, make_gold, mix_in_gold
from ndec_builder.annotation.assignment.hints import suggestions
from ndec_builder.annotation.assignment.queues import default_annotators, pairs_to_label
from ndec_builder.annotation.assignment.replaced_pairs import removed_text, replaced_pairs, replaced_text, set_back
from ndec_builder.annotation.assignment.rounds import new_tasks
from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.accounts import Accounts, accounts_file, make_accounts, read_accounts
from ndec_builder.annotation.label_studio.connection import Connection, connect_label_studio, explain_errors
from ndec_builder.annotation.label_studio.handover import (
    move_from_left,
    offer_skipped,
    replace_lost_gold,
    share_with_newcomers,
    withdraw_replaced,
)
from ndec_builder.annotation.label_studio.task_sync import sync_tasks
from ndec_builder.annotation.label_tables import keys, of_people
from ndec_builder.annotation.records.given_labels import take_given_labels
from ndec_builder.annotation.records.gold_truth import GoldOverTime
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.stopping.certificate import first_labels, sample_advice
from ndec_builder.annotation.stopping.progress import certificate_line
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.web.picture_keys import add_keys
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: image addresses contain the pair's id
GOLD_ROUNDS = ("first", "double_check")


def run(config: PushConfig) -> Path:
    """Write tasks.parquet, make the projects and import what they lack; returns the path of the table.

    The table is written first, and the import then brings Label Studio to it: after a kill, the same command finishes
    the work and no pair is imported twice. Raises NdecError without candidates or server, or if too few annotators may
    label a pair.
    """
    record = RunRecord("annotate push", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    with locked(directory):
        _require_candidates(workspace, config.split)
        tables = AnnotationTables(workspace, config.split)
        take_given_labels(tables)
        named = config.annotators
        if not named:
            names = default_annotators(tables.tasks, tables.today, config.round, tables.skipped)
            names = tuple(name for name in names if name not in tables.options.left) or names
            config = replace(config, annotators=names)
            say(f"no --annotator given: new pairs go to {', '.join(names)}")
        new = _with_gold(config, tables, tables.tasks, new_tasks(config, tables))
        connection = connect_label_studio(workspace, config.url, config.token_file, config.image_url)
        add_keys(tables, connection)
        if config.round == "first":
            tables.options = replace(tables.options, narrowing=config.narrowing)
        else:  # its pairs depend on the decisions
            tables.options = replace(tables.options, decide=config.decide)
        tables.keep_options(config.hints, config.check_above, config.check_pairs, named, config.sample)
        path = tables.write("tasks", pa.concat_tables([tables.tasks, new]))
        withdrawn = withdraw_replaced(tables, connection)
        replace_lost_gold(config, tables, connection)
        move_from_left(config, tables)
        share_with_newcomers(config, tables, connection)
        skipped = offer_skipped(config, tables, connection)
        _gold_for_newcomers(config, tables)
        imported = sum(
            sync_tasks(tables, name, connection, config.chunk, suggestions(tables, name))
            for name in (config.round, *_other_rounds(config, tables))
        )
        server_snapshot.end_handover(directory)
        people = keys(of_people(tables.tasks), "round", "annotator")
        annotators = sorted({name for found, name in people if found == config.round})
        made = make_accounts(connection, _busy(config, tables)) if config.accounts == "own" else {}
        here = {*annotators, *config.annotators} - ({*tables.options.left} - {*config.annotators})
        where = _addresses(config, workspace, connection, sorted(here), made)
        counts = {"tasks": tables.tasks.num_rows, "new": new.num_rows, "imported": imported}
        replaced = replaced_pairs(tables)
        counts |= {"replaced": asdict(replaced) if replaced else {}, "withdrawn_replaced": withdrawn["replaced"]}
        counts |= {"annotators": len(annotators)} | {f"skipped_{name}": number for name, number in skipped.items()}
        inputs = {path.name: sha256_file(path) for path in workspace.candidate_files(config.split)}
        record.write(directory, counts=counts, inputs=inputs)
    say(
        f"{config.round} round of {config.split}: {number_of(new.num_rows, 'new task')}, {imported} sent "
        f"to {connection.url}"
    )
    if replaced_tasks := withdrawn["replaced"]:
        say(
            f"{number_of(replaced_tasks, 'open task')} showed a picture that was replaced since: taken back, and sent "
            "again with the new picture"
        )
    if removed_tasks := withdrawn["removed"]:
        say(f"{number_of(removed_tasks, 'open task')} showed a picture that was removed since: taken back")
    for line in [*replaced_text(tables), *_former_pairs(tables), *where, *_about_stopping(config, tables)]:
        say(line)
    return path


def _other_rounds(config: PushConfig, tables: AnnotationTables) -> list[str]:
    """The other rounds that have a pair whose picture was replaced: it is asked again there too, or, if it is a gold
    pair, another one takes its place.
    """
    touched, tasks = tables.shown.touched, of_people(tables.tasks)
    found = {round_ for pair, round_, _ in keys(tasks) if pair in touched} if touched else set()
    if GoldOverTime(tables.workspace, tables.split, tables.gold).lost():
        found |= set(tasks.filter(tasks["is_gold"])["round"].to_pylist())
    return [name for name in ROUNDS if name in found - {config.round}]


def _busy(config: PushConfig, tables: AnnotationTables) -> list[str]:
    """The annotators named, and those with open pairs of the round. Others left, or were forgotten: they need no
    account.
    """
    given = keys(of_people(tables.tasks))
    return sorted({*config.annotators, *(k[2] for k in given if k[1] == config.round and k not in tables.labelled)})


def _about_stopping(config: PushConfig, tables: AnnotationTables) -> list[str]:
    """What the random sample will certify, or how far the certificate is."""
    if config.round == "first" and config.sample and tables.certificate is None:
        pairs = pairs_to_label(tables.candidates)
        labels, drawn = first_labels(tables), draw_pairs((pair[0] for pair in pairs), config.sample, "sample")
        known = [labels[pair] for pair in drawn if pair in labels]
        return [sample_advice(config.sample, len(pairs), (known.count("hard_negative"), len(known)))]
    line = certificate_line(tables)
    return [line] if line else []


def _with_gold(config: PushConfig, tables: AnnotationTables, tasks: pa.Table, new: pa.Table) -> pa.Table:
    """Mix gold pairs into the new rows; audit and adjudication have none."""
    if not config.gold or not new.num_rows or config.round not in GOLD_ROUNDS:
        return new
    lost = GoldOverTime(tables.workspace, tables.split, tables.gold).lost()
    gold = make_gold(tables, gold_needed(new, tasks, config.gold, lost), config.gold_seed)
    return mix_in_gold(new, gold, config.gold, tasks, config.gold_seed)


def _gold_for_newcomers(config: PushConfig, tables: AnnotationTables) -> None:
    """Gold pairs for annotators who took over all their first pairs from others."""
    if not config.gold or config.round not in GOLD_ROUNDS:
        return
    tasks, held = tables.tasks, server_snapshot.ServerSnapshot(tables)
    rows = list(keys(tasks, "round", "annotator", "is_gold"))
    has_gold = {name for found, name, is_gold in rows if found == config.round and is_gold}
    new = {name for name in config.annotators if name not in has_gold and not held.projects_of((config.round, name))}
    is_new = pa.array([found == config.round and name in new for found, name, _ in rows], pa.bool_())
    own, rest = tasks.filter(is_new), tasks.filter(pc.invert(is_new))
    if own.num_rows:
        tables.write("tasks", pa.concat_tables([rest, _with_gold(config, tables, rest, own)]))


def _former_pairs(tables: AnnotationTables) -> list[str]:
    """What to know about pairs that a later mining, with other settings, did not find again."""
    mined = {pair for table in tables.candidates for pair in table["pair_id"].to_pylist()}
    mined |= set(tables.former["pair_id"].to_pylist())
    tasks = keys(tables.tasks, "pair_id", "round", "annotator", "is_gold")
    done = tables.labelled | set_back(tables)
    still_open = {
        pair for pair, *who, is_gold in tasks if not is_gold and pair not in mined and (pair, *who) not in done
    } - tables.shown.removed
    lines = [*tables.former_text(), *removed_text(tables)]
    if still_open:
        lines.append(
            f"{number_of(len(still_open), 'open pair is', 'open pairs are')} no longer among the "
            "mined ones; if they are labelled, their labels count"
        )
    return lines


def _addresses(
    config: PushConfig, workspace: Workspace, connection: Connection, annotators: list[str], made: Accounts
) -> list[str]:
    """Where each annotator labels, or why not yet, and with which account. Passwords of new accounts only are shown."""
    with explain_errors(connection, "looking for ndec's projects"):
        found = projects.find_projects(connection.client())
    path = accounts_file(workspace.label_studio)
    known = read_accounts(workspace.label_studio) if connection.secrets and config.accounts == "own" else {}
    lines = []
    for name in annotators:
        key = projects.project_key(workspace, config.split, config.round, name)
        if key in found:
            line = f"{name}: {connection.url}/projects/{found[key].id}/data?labeling=1"
        elif name in config.annotators:
            line = f"{name}: no pairs of this round yet, because too few are open"
        else:
            continue
        if name in known:
            line += f"   user: {known[name]['user']}   password: {made[name]['password'] if name in made else path}"
        lines.append(line)
    return lines + ([f"the new passwords are shown only now; they are stored in {path}"] if made else [])


def _require_candidates(workspace: Workspace, split: str) -> None:
    if not workspace.candidate_files(split):
        raise NdecError(
            f"there are no candidates of the split {split!r} yet ({workspace.candidates(split) / 'candidates.parquet'} "
            f"does not exist); run `ndec mine --split {split} --workspace {workspace.root}` first"
        )
