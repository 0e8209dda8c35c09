"""Which pairs a push adds to people's queues: the first labelling, the second look, the disputed ones, the audit."""

from __future__ import annotations

from collections import Counter, defaultdict

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.assignment.order import copies_last, informative_first, likeliest_first
from ndec_builder.annotation.assignment.queues import assign, disputed_pairs, double_check_pairs, give, pairs_to_label
from ndec_builder.annotation.assignment.undecided_queries import settled, waiting
from ndec_builder.annotation.decisions.audit import bound_of, disputed, judges, kept_pairs, unconfirmed, votes_of
from ndec_builder.annotation.decisions.clearing import contradicted, slice_pairs, votes_in
from ndec_builder.annotation.decisions.label_statistics import doubtful, draw, posterior_of, prior_of
from ndec_builder.annotation.decisions.resolution import resolve, standing, verdicts_of
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import (
    AUDIT_ROUND,
    Pair,
    cleared_by,
    copy_probabilities,
    newest,
    read_relearnt,
    without_set_aside,
)
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import DECISIONS, TASKS, table_of
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace


def new_tasks(
    config: PushConfig, tables: list[pa.Table], tasks: pa.Table, labels: pa.Table, set_aside: pa.Table
) -> pa.Table:
    """Rows (schema TASKS) that this push adds to `tasks`; gold pairs are mixed in later.

    `tables`: the candidates; `labels`: all that were pulled, `set_aside`: those that do not count. Raises NdecError
    when a later round has nothing to look at, or too few people.
    """
    pairs, counting = pairs_to_label(tables), without_set_aside(labels, set_aside)
    if config.round == "first":
        return _first(config, tables, pairs, tasks, labels, counting)
    if not counting.num_rows:
        raise NdecError(
            f"there is no label of the split {config.split!r} yet, so nothing to look at again; "
            f"label the first round, then run `ndec annotate pull --split {config.split}`"
        )
    seen_by, load = _seen_by(config.round, tasks, labels), open_load(config.round, tasks, labels)
    if config.round == AUDIT_ROUND:
        return _audit(config, tables, pairs, tasks, counting, seen_by, load)
    decide = config.keepable or config.round == "adjudication"  # weighing all labels takes a while
    decisions = _decisions(config, tables, tasks, counting) if decide else table_of(DECISIONS, [])
    if config.round == "double_check" and config.double_check == "uncertain":
        prior = prior_of(tables, read_relearnt(Workspace(config.workspace), config.split))
        unsure = doubtful(*posterior_of(counting, prior), config.tolerance, config.discard_tolerance)
        # Where all have looked at a pair it stays open; only when that is so of every pair does `assign` complain.
        chosen = {pair for pair in unsure if set(config.annotators) - seen_by[pair]} or unsure
    elif config.round == "double_check":
        chosen = double_check_pairs(counting, config.double_check)
    else:
        chosen = disputed_pairs(decisions)
    if config.keepable:
        chosen -= settled(pairs, decisions)
    if config.round == "adjudication" and config.decide == "weighed":
        return _one_more(config, pairs, chosen, tasks, counting, seen_by, load)
    pairs = [pair for pair in pairs if pair[0] in chosen]
    return assign(pairs, config.round, config.annotators, tasks=tasks, seen_by=seen_by, load=load)


def _decisions(config: PushConfig, tables: list[pa.Table], tasks: pa.Table, labels: pa.Table) -> pa.Table:
    """Decisions of today, those of auto-clearing among them, without the audit's."""
    workspace = Workspace(config.workspace)
    verdicts = verdicts_of(workspace, config.split, labels, tables, config)
    return resolve(tasks, labels, standing(workspace, config.split), audited=False, verdicts=verdicts)


def _one_more(
    config: PushConfig,
    pairs: list[Pair],
    chosen: set[str],
    tasks: pa.Table,
    labels: pa.Table,
    seen_by: dict[str, set[str]],
    load: dict[str, int],
) -> pa.Table:
    """One more person for each pair on which the labels weighed leave doubt; none where nobody is left."""
    by_id, people = {pair[0]: pair for pair in pairs}, {}
    given = tasks.filter(pc.equal(tasks["round"], config.round))
    had: dict[str, set[str]] = defaultdict(set)
    for pair, name in zip(given["pair_id"].to_pylist(), given["annotator"].to_pylist(), strict=True):
        had[pair].add(name)
    answered = Counter(newest(labels.filter(pc.equal(labels["round"], config.round)))["pair_id"].to_pylist())
    for pair in (pair for pair in by_id if pair in chosen):
        if len(had[pair]) == answered[pair] and set(config.annotators) - seen_by[pair] - had[pair]:
            people[pair] = len(had[pair]) + 1
    return give(by_id, people, config.round, config.annotators, tasks=tasks, load=load, seen_by=seen_by)


def _first(
    config: PushConfig,
    tables: list[pa.Table],
    pairs: list[Pair],
    tasks: pa.Table,
    labels: pa.Table,
    counting: pa.Table,
) -> pa.Table:
    """The first labelling; the slice that checks auto-clearing comes first, its contradicted pairs to one more."""
    workspace = Workspace(config.workspace)
    by_id = {pair[0]: pair for pair in pairs}
    decided_file = workspace.annotation(config.split) / "decisions.parquet"
    if decided_file.is_file():
        table = read_table(decided_file, ["pair_id", "decision"])
        decided = set(table.filter(table["decision"].is_valid())["pair_id"].to_pylist())
        pairs = [pair for pair in pairs if pair[0] not in decided]
    cleared = standing(workspace, config.split)
    pairs = [pair for pair in pairs if pair[0] not in cleared]
    if config.sample:
        drawn = set(draw(by_id, config.sample, "sample"))
        pairs = [pair for pair in pairs if pair[0] in drawn]
    probabilities = copy_probabilities(tables)
    chosen = table_of(TASKS, [])
    if config.check_pairs:
        slice_, seen_by = _slice(config, cleared_by(workspace, config.split, tables)), _seen_by("first", tasks, labels)
        load = open_load("first", tasks, labels)
        people = _slice_people(config, slice_, tasks, counting, seen_by)
        chosen = give(by_id, people, "first", config.annotators, tasks=tasks, load=load, seen_by=seen_by)
        tasks = pa.concat_tables([tasks, chosen])
    if config.below < 1:
        pairs = [pair for pair in pairs if probabilities.get(pair[0], 0.5) < config.below]
    if config.keepable:
        decisions = _decisions(config, tables, tasks, counting)
        out = settled(by_id.values(), decisions) | waiting(by_id.values(), decisions, probabilities)
        pairs = [pair for pair in pairs if pair[0] not in out]
    if config.order == "likeliest":
        pairs = likeliest_first(pairs, read_relearnt(workspace, config.split))
    elif config.order != "rank":
        pairs = {"informative": informative_first, "copies_last": copies_last}[config.order](pairs, probabilities)
    if config.count:
        known = set(tasks.filter(pc.equal(tasks["round"], "first"))["pair_id"].to_pylist())
        pairs = [pair for pair in pairs if pair[0] not in known][: config.count]
    rest = assign(
        pairs,
        "first",
        config.annotators,
        tasks=tasks,
        overlap=config.overlap if len(config.annotators) > 1 else 0.0,
        overlap_people=config.overlap_people,
        load=open_load("first", tasks, labels),
    )
    return pa.concat_tables([chosen, rest])


def _slice_people(
    config: PushConfig, slice_: list[str], tasks: pa.Table, labels: pa.Table, seen_by: dict[str, set[str]]
) -> dict[str, int]:
    """How many people each pair of the slice reaches in the first round: one, one more where labels contradict.

    Whoever labelled a pair of it before, in any round, counts as its judge.
    """
    first = tasks.filter(pc.equal(tasks["round"], "first"))
    had: dict[str, set[str]] = defaultdict(set)
    for pair, name in zip(first["pair_id"].to_pylist(), first["annotator"].to_pylist(), strict=True):
        had[pair].add(name)
    votes = votes_in(labels)
    people = dict.fromkeys(slice_, 1)
    for pair in contradicted(slice_, votes):
        if len(votes[pair]) >= len(had[pair]) and set(config.annotators) - had[pair] - seen_by[pair]:
            people[pair] = len(had[pair]) + 1
    return people


def _slice(config: PushConfig, probabilities: dict[str, float]) -> list[str]:
    if not probabilities:
        raise NdecError(
            f"check_pairs is {config.check_pairs}, but the pairs of the split {config.split!r} have no pre-label to "
            f"check; run `ndec prelabel --split {config.split}` first"
        )
    found = slice_pairs(probabilities, config.check_above, config.check_pairs)
    if len(found) < config.check_pairs:
        say(
            f"only {len(found)} pairs have a pre-label of at least {config.check_above:g}: all of them go to "
            "people, and auto-clearing can save nothing"
        )
    return found


def _audit(
    config: PushConfig,
    tables: list[pa.Table],
    pairs: list[Pair],
    tasks: pa.Table,
    labels: pa.Table,
    seen_by: dict[str, set[str]],
    load: dict[str, int],
) -> pa.Table:
    """`judges` more people for each drawn pair, and another where those of the audit disagree, or condemn it.

    A disputed pair needs somebody; a condemned one is confirmed only where somebody is left.
    """
    decisions = _decisions(config, tables, tasks, labels)
    kept = kept_pairs(pa.concat_tables(tables), decisions, config.split)
    if not kept:
        raise NdecError(
            f"no pair of the split {config.split!r} is kept as a hard negative yet, so there is nothing to audit; "
            f"label and double-check first, then run `ndec annotate pull --split {config.split}`"
        )
    if len(kept) < config.audit_pairs:
        say(
            f"{len(kept)} pairs are kept, fewer than the {config.audit_pairs} asked for: all are audited; without an "
            f"edited copy among them the bound is {bound_of(0, len(kept), len(kept)):.2%}"
        )
    people = dict.fromkeys(draw(kept, config.audit_pairs), judges(Workspace(config.workspace).annotation(config.split)))
    votes = votes_of(labels)
    given = Counter(row["pair_id"] for row in tasks.to_pylist() if row["round"] == AUDIT_ROUND)
    seen = defaultdict(set, seen_by)
    for row in tasks.to_pylist():
        if row["round"] == AUDIT_ROUND:
            seen[row["pair_id"]].add(row["annotator"])
    for pair in [*disputed(votes), *unconfirmed(votes)]:
        left = set(config.annotators) - seen[pair]
        if given[pair] == len(votes[pair]) and (left or pair not in unconfirmed(votes)):  # nobody has it open
            people[pair] = max(given[pair] + 1, people.get(pair, 0))
    by_id = {pair[0]: pair for pair in pairs}
    return give(by_id, people, AUDIT_ROUND, config.annotators, tasks=tasks, load=load, seen_by=seen_by)


def _seen_by(round_: str, tasks: pa.Table, labels: pa.Table) -> dict[str, set[str]]:
    """Who had each pair in another round, or labelled it in any: labels that were sent back too."""
    seen: dict[str, set[str]] = defaultdict(set)
    for table in (tasks, labels):
        columns = (table[name].to_pylist() for name in ("pair_id", "round", "annotator"))
        for pair, found, name in zip(*columns, strict=True):
            if found != round_ or table is labels:
                seen[pair].add(name)
    return seen


def open_load(round_: str, tasks: pa.Table, labels: pa.Table) -> dict[str, int]:
    """Pairs that each person still has to label in this round."""
    done = set(zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
    columns = zip(*(tasks[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True)
    return dict(Counter(key[2] for key in columns if key[1] == round_ and key not in done))
