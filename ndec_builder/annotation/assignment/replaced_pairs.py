"""Pairs whose picture was replaced or removed after they were given out: who is asked again, what a command says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa

from ndec_builder.annotation.label_tables import Key, keys, newest_labels, no_gold
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of
from ndec_builder.core.schemas import CLEARED
from ndec_builder.core.vocabulary import FILE_SOURCE


def former_keys(tables: AnnotationTables) -> set[Key]:
    """(pair, round, annotator) of pairs that were given to somebody whose labels are all about replaced pictures."""
    if not tables.shown.touched:
        return set()
    old = set(keys(no_gold(tables.valid_labels))) - tables.labelled - set(keys(tables.set_aside))
    return old & set(keys(tables.tasks))


def set_back(tables: AnnotationTables, round_: str = "") -> set[Key]:
    """Those of `former_keys` in this round (all rounds without one) that are not asked again now, because

    the pair is no longer among the mined ones, or, in a later round, that round does not need it yet: a second label
    follows a first one, and an adjudication labels that differ.
    """
    former = {key for key in former_keys(tables) if round_ in ("", key[1])}
    return former - _needed(tables) if former else former


def _needed(tables: AnnotationTables) -> set[Key]:
    mined = {pair for table in tables.mined for pair in table["pair_id"].to_pylist()}
    labels: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for pair, round_, label in keys(newest_labels(tables.counting_labels), "pair_id", "round", "label"):
        labels[pair].add((round_, label))
    found = set()
    for key in former_keys(tables):
        pair, round_, _ = key
        others = [label for given_in, label in labels[pair] if given_in != round_]
        least = {"first": 0, "adjudication": 2}.get(round_, 1)
        if (not tables.mined or pair in mined) and len(set(others) if least > 1 else others) >= least:
            found.add(key)
    return found


def without_former_files(tables: AnnotationTables, tasks: pa.Table) -> pa.Table:
    """The tasks without pairs that came labelled with a file and whose picture was replaced: people get them."""
    gone = {key for key in former_keys(tables) if key[2].startswith(FILE_SOURCE)}
    return tasks.filter(pa.array([key not in gone for key in keys(tasks)], pa.bool_())) if gone else tasks


@dataclass(frozen=True)
class ReplacedPairs:
    """Labels of replaced pictures, by (pair, round, annotator): asked: a new task is open · waiting: the next push
    makes one · later: not needed now (`set_back`) · of_files: came with a file of pairs."""

    asked: int
    waiting: int
    later: int
    of_files: int
    pairs: int
    first: str

    def as_text(self, split: str) -> str:
        """What a person wants to know, in one paragraph."""
        parts = [
            f"asked again by a new task: {self.asked}" if self.asked else "",
            f"`ndec annotate push --split {split}` asks again: {self.waiting}" if self.waiting else "",
            f"not asked again, because the pair is no longer mined or its round does not need it yet: {self.later}"
            if self.later
            else "",
            f"from files of pairs: {self.of_files}" if self.of_files else "",
        ]
        return (
            f"{number_of(self.pairs, 'labelled pair shows', 'labelled pairs show')} other pictures now: an image was "
            f"replaced under the same id, or turned (first pair: {self.first}). Such labels stay in labels.parquet and "
            f"do not count; {'; '.join(filter(None, parts))}"
        )


def replaced_pairs(tables: AnnotationTables) -> ReplacedPairs | None:
    """The pairs that somebody labelled, whose picture was replaced, and that have no new label of this annotator."""
    if not (former := former_keys(tables)):
        return None
    held = tables.project_tasks
    columns = (held[name].to_pylist() for name in ("pair_id", "round", "annotator", "pictures", "annotation"))
    shown = {
        (pair, round_, name)
        for pair, round_, name, tag, annotation in zip(*columns, strict=True)
        if pair in tables.shown.touched and tables.shown.question(pair, tag) == pair and annotation is None
    }
    files = {key for key in former if key[2].startswith(FILE_SOURCE)}
    asked = former & shown
    waiting = (former & _needed(tables)) - asked - files
    return ReplacedPairs(
        asked=len(asked),
        waiting=len(waiting),
        later=len(former - asked - waiting - files),
        of_files=len(files),
        pairs=len({pair for pair, _, _ in former}),
        first=min(former)[0],
    )


def no_longer_cleared(tables: AnnotationTables) -> list[str]:
    """The pairs that were auto-cleared and show other pictures now, ascending: people label them like all others."""
    return sorted({*tables.read("cleared", CLEARED)["pair_id"].to_pylist()} - {*tables.cleared["pair_id"].to_pylist()})


def replaced_text(tables: AnnotationTables) -> list[str]:
    """One paragraph if there are such pairs, and one for auto-cleared pairs that nobody was given since."""
    found, given = replaced_pairs(tables), set(tables.tasks["pair_id"].to_pylist())
    lines = [found.as_text(tables.split)] if found else []
    if lost := [pair for pair in no_longer_cleared(tables) if pair not in given]:
        lines.append(
            f"{number_of(len(lost), 'auto-cleared pair shows', 'auto-cleared pairs show')} other pictures now (first "
            f"pair: {lost[0]}), so no longer cleared; `ndec annotate push --split {tables.split}` gives to annotators "
            "what is still mined"
        )
    return lines


def removed_text(tables: AnnotationTables) -> list[str]:
    """One line if there are open pairs of images that were removed."""
    removed = tables.shown.removed
    left = {key[0] for key in keys(tables.tasks) if key[0] in removed and key not in tables.labelled} if removed else ()
    if not left:
        return []
    found = number_of(len(left), "open pair is", "open pairs are")
    return [f"{found} of images that were removed; nobody is asked, unless they are ingested again"]
