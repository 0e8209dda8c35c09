"""Which pairs a push adds to the annotators' queues: first labels, double-checks, adjudication, the audit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.assignment.order import copies_last, informative_first, likeliest_first
from ndec_builder.annotation.assignment.queues import (
    assign_new_pairs,
    assign_people,
    disputed_pairs,
    double_check_pairs,
    pairs_to_label,
)
from ndec_builder.annotation.assignment.replaced_pairs import without_former_files
from ndec_builder.annotation.assignment.undecided_queries import pairs_left_out, pairs_of_dropped_queries
from ndec_builder.annotation.decisions.audit import (
    audit_bound,
    audit_judges,
    audit_order,
    audit_votes,
    disputed_in_audit,
    kept_pairs,
    unconfirmed_in_audit,
)
from ndec_builder.annotation.decisions.clearing import contradicted_pairs, slice_pairs, votes_without_audit
from ndec_builder.annotation.decisions.label_statistics import doubtful_pairs, draw_pairs, posterior_of, prior_of
from ndec_builder.annotation.decisions.resolution import decision_table, still_cleared, weighted_by
from ndec_builder.annotation.decisions.weighted_draws import doubt_weights
from ndec_builder.annotation.label_tables import AUDIT_ROUND, Key, Pair, copy_probabilities, keys, newest_labels
from ndec_builder.annotation.records.pair_values import write_pair_values
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import WEIGHTS_FILE, AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import TASKS, table_of

People = dict[str, set[str]]  # pair_id → annotators


def new_tasks(config: PushConfig, tables: AnnotationTables) -> pa.Table:
    """Rows (schema TASKS) that this push adds to the tasks; gold pairs are mixed in later.

    Raises NdecError if a later round has no pair to label again, or too few annotators.
    """
    pairs = pairs_to_label(tables.candidates)
    if config.round == "first":
        return _first(config, tables, pairs)
    labels = tables.counting_labels
    if not labels.num_rows:
        raise NdecError(
            f"there is no label of the split {config.split!r} yet, so no pair to label again; "
            f"label the first round, then run `ndec annotate pull --split {config.split}`"
        )
    pairs += pairs_to_label([tables.former])  # a dataset keeps them as well
    seen_by = _seen_by(config.round, tables)
    load = open_load(config.round, tables.tasks, tables.labelled | tables.skipped)
    if config.round == AUDIT_ROUND:
        return _audit(config, tables, pairs, seen_by, load)
    if config.round == "double_check":
        earlier = pc.any(pc.equal(tables.tasks["round"], "double_check")).as_py()
        which = "keepable" if config.keepable else config.double_check  # queries are dropped by labels
        tables.options = tables.options.after_double_check(which, bool(earlier))
    if config.keepable or config.round == "adjudication":  # weighing all labels takes a while
        decisions = _decisions(config, tables, tables.tasks)
    if config.round == "double_check" and config.double_check == "uncertain":
        prior = prior_of(tables.candidates, tables.relearnt)
        unsure = doubtful_pairs(*posterior_of(labels, prior), config.tolerance, config.discard_tolerance)
        # A pair that everyone has labelled stays open; only if that is true of all pairs, assigning fails.
        chosen = {pair for pair in unsure if set(config.annotators) - seen_by[pair]} or unsure
    elif config.round == "double_check":
        chosen = double_check_pairs(labels, config.double_check)
    else:
        chosen = disputed_pairs(decisions)
    if config.keepable:
        chosen -= pairs_of_dropped_queries(pairs, decisions)
    if config.round == "adjudication" and config.decide == "weighed":
        return _one_more(config, tables, pairs, chosen, seen_by, load)
    pairs = [pair for pair in pairs if pair[0] in chosen]
    return assign_new_pairs(pairs, config.round, config.annotators, tasks=tables.tasks, seen_by=seen_by, load=load)


def _decisions(config: PushConfig, tables: AnnotationTables, tasks: pa.Table) -> pa.Table:
    """The current decisions, including auto-cleared pairs, without those of the audit."""
    weighted, cleared = weighted_by(tables, config), still_cleared(tables)
    return decision_table(tasks, tables.counting_labels, cleared, audited=False, weighted=weighted)


def _one_more(
    config: PushConfig,
    tables: AnnotationTables,
    pairs: list[Pair],
    chosen: set[str],
    seen_by: People,
    load: dict[str, int],
) -> pa.Table:
    """One more annotator for each pair that the weighted labels leave in doubt; none if nobody is left."""
    by_id, people = {pair[0]: pair for pair in pairs}, {}
    had, labels = _had(config.round, tables.tasks), tables.counting_labels
    labels_here = newest_labels(labels.filter(pc.equal(labels["round"], config.round)))
    answered = Counter(labels_here["pair_id"].to_pylist())
    for pair in (pair for pair in by_id if pair in chosen):
        if len(had[pair]) == answered[pair] and set(config.annotators) - seen_by[pair] - had[pair]:
            people[pair] = len(had[pair]) + 1
    return assign_people(by_id, people, config.round, config.annotators, tasks=tables.tasks, load=load, seen_by=seen_by)


def _first(config: PushConfig, tables: AnnotationTables, pairs: list[Pair]) -> pa.Table:
    """The first round. The slice that checks auto-clearing comes first; contradicted pairs get one more annotator."""
    by_id, tasks = {pair[0]: pair for pair in pairs}, without_former_files(tables, tables.tasks)
    by_people = pc.not_equal(tables.decisions["basis"], "auto_cleared")  # null, so left out, without a decision
    decided = set(tables.decisions.filter(by_people)["pair_id"].to_pylist()) - tables.replaced
    done = decided | still_cleared(tables)
    pairs = [pair for pair in pairs if pair[0] not in done]
    if config.sample:  # in random order, and nothing left out: what is labelled by half time is a random sample too
        open_ = {pair[0] for pair in pairs}
        pairs = [by_id[pair] for pair in draw_pairs(by_id, config.sample, "sample") if pair in open_]
    probabilities = copy_probabilities(tables.candidates)
    chosen = table_of(TASKS, [])
    if config.check_pairs:
        slice_, seen_by = _slice(config, tables.cleared_by), _seen_by("first", tables)
        tables.options = tables.options.after_slice(slice_)
        load = open_load("first", tasks, tables.labelled | tables.skipped)
        people = _slice_people(config, tables, slice_, seen_by)
        chosen = assign_people(by_id, people, "first", config.annotators, tasks=tasks, load=load, seen_by=seen_by)
        tasks = pa.concat_tables([tasks, chosen])
    out = pairs_left_out(by_id.values(), lambda: _decisions(config, tables, tasks), probabilities, **config.narrowing)
    pairs = [pair for pair in pairs if pair[0] not in out]
    if config.order == "likeliest" and not config.sample:
        pairs = _certified_first(likeliest_first(pairs, tables.relearnt), tables)
    elif config.order != "rank" and not config.sample:
        pairs = {"informative": informative_first, "copies_last": copies_last}[config.order](pairs, probabilities)
    if config.count:
        known = set(tasks.filter(pc.equal(tasks["round"], "first"))["pair_id"].to_pylist())
        pairs = [pair for pair in pairs if pair[0] not in known][: config.count]
    rest = assign_new_pairs(
        pairs,
        "first",
        config.annotators,
        tasks=tasks,
        overlap=config.overlap if len(config.annotators) > 1 else 0.0,
        overlap_people=config.overlap_people,
        load=open_load("first", tasks, tables.labelled | tables.skipped),
    )
    return pa.concat_tables([chosen, rest])


def _certified_first(pairs: list[Pair], tables: AnnotationTables) -> list[Pair]:
    """The pairs that the certificate names first, in its order, which relearning must not change; then the others."""
    named = {pair: place for place, pair in enumerate((tables.certificate or {}).get("to_label", ()))}
    return sorted(pairs, key=lambda pair: named.get(pair[0], len(named)))  # stable


def _slice_people(config: PushConfig, tables: AnnotationTables, slice_: list[str], seen_by: People) -> dict[str, int]:
    """How many annotators each pair of the slice needs in the first round: one, and one more if labels contradict.

    A label that a pair got before, in any round, counts.
    """
    had, votes = _had("first", tables.tasks), votes_without_audit(tables.counting_labels)
    people = dict.fromkeys(slice_, 1)
    for pair in contradicted_pairs(slice_, votes):
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
            f"only {number_of(len(found), 'pair has', 'pairs have')} a pre-label of at least "
            f"{config.check_above:g}: all of them go to "
            "annotators, and auto-clearing can save nothing"
        )
    return found


def _audit(
    config: PushConfig, tables: AnnotationTables, pairs: list[Pair], seen_by: People, load: dict[str, int]
) -> pa.Table:
    """`audit_judges` annotators for each sampled pair, and one more if audit labels disagree or call it a copy.

    A disputed pair requires one more annotator; a copy is only confirmed if an annotator is left.
    """
    tasks = tables.tasks
    known = [*tables.candidates, tables.former]  # labels of pairs that are no longer mined count as well
    kept = kept_pairs(pa.concat_tables(known), _decisions(config, tables, tasks), config.split)
    if not kept:
        raise NdecError(
            f"no pair of the split {config.split!r} is kept as a hard negative yet, so there is nothing to audit; "
            f"label and double-check first, then run `ndec annotate pull --split {config.split}`"
        )
    if len(kept) < config.audit_pairs:
        say(
            f"{number_of(len(kept), 'pair is', 'pairs are')} kept, fewer than the {config.audit_pairs} "
            "asked for: all are audited; without an "
            f"edited copy among them the bound is {audit_bound(0, len(kept), len(kept)):.2%}"
        )
    if config.weighted:
        _start_weighted_audit(tables)
    order = audit_order(kept, tables.audit_weights)
    people = dict.fromkeys(order[: config.audit_pairs], audit_judges(tables.options))
    votes, given = audit_votes(tables.counting_labels), _had(AUDIT_ROUND, tasks)
    unconfirmed = unconfirmed_in_audit(votes)
    for pair in [*disputed_in_audit(votes), *unconfirmed]:
        left = set(config.annotators) - seen_by[pair] - given[pair]
        if len(given[pair]) == len(votes[pair]) and (left or pair not in unconfirmed):  # nobody has it open
            people[pair] = max(len(given[pair]) + 1, people.get(pair, 0))
    by_id = {pair[0]: pair for pair in pairs}
    return assign_people(by_id, people, AUDIT_ROUND, config.annotators, tasks=tasks, load=load, seen_by=seen_by)


def _start_weighted_audit(tables: AnnotationTables) -> None:
    """Keep the weights of the draw, from the current pre-labels; a later audit keeps those of the first one."""
    if tables.audit_weights is not None:
        return
    if pc.any(pc.equal(tables.tasks["round"], AUDIT_ROUND)).as_py():
        raise NdecError(
            "the audit was started with uniform draws, and --weighted cannot change that: its bound depends on how "
            "each pair was drawn; run `ndec annotate audit` without --weighted"
        )
    probabilities = copy_probabilities(tables.candidates)
    tables.audit_weights = doubt_weights(probabilities, probabilities)  # relearning changes the probabilities later
    write_pair_values(tables.directory / WEIGHTS_FILE, "weight", tables.audit_weights)


def _had(round_: str, tasks: pa.Table) -> People:
    """Who was given each pair in this round."""
    had: People = defaultdict(set)
    for pair, found, name in keys(tasks):
        if found == round_:
            had[pair].add(name)
    return had


def _seen_by(round_: str, tables: AnnotationTables) -> People:
    """Who was given each pair in another round, labelled or skipped it in any; labels sent back count too."""
    seen = involved_in(tables)
    for pair, found, name in keys(tables.tasks):
        if found != round_:
            seen[pair].add(name)
    return seen


def involved_in(tables: AnnotationTables) -> People:
    """Who labelled or skipped each pair in any round; labels that were withdrawn or sent back count too."""
    seen: People = defaultdict(set)
    for table in (tables.labels, tables.skips):
        for pair, _, name in keys(table):
            seen[pair].add(name)
    return seen


def open_load(round_: str, tasks: pa.Table, finished: Collection[Key]) -> dict[str, int]:
    """Pairs that each annotator still has to label in this round; `finished`: labelled or skipped ones."""
    return dict(Counter(key[2] for key in keys(tasks) if key[1] == round_ and key not in finished))
