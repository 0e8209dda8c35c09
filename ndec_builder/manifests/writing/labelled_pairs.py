"""What people's labels say of pool images, also of pairs that a later mining did not find again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.label_tables import keys, no_gold, without_set_aside
from ndec_builder.annotation.records.pictures import Images, lost_pictures
from ndec_builder.annotation.records.present_images import of_present_images
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.kept_queries import FORMERLY_MINED, KeptQueries
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import number_of, say
from ndec_builder.core.schemas import CANDIDATES, SPLITS, conform
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.arrow_ops import concatenated, first_of_each, texts, within
from ndec_builder.manifests.writing.twins import TwinMap, represented
from ndec_builder.sources.pictures_over_time import bytes_of, picture_column

# why an image that people labelled edited_copy is no query, in the order of the checks
SEVERAL = "edited_copy_of_several_references"
OPEN = "edited_copy_with_an_undecided_pair"
UNSEEN = "edited_copy_that_nobody_labelled"
# why a query or a training pair is left out: people called the same two pictures something else
OTHERWISE = "labelled_otherwise"
Labelled = dict[Images, set[str]]  # labels of two images
_ANSWER, _ANYBODY = ("annotator", "annotated_at", "label"), ""


def former_pairs(workspace: Workspace, split: str, mined: pa.Table, *, quiet: bool = False) -> pa.Table:
    """Labelled pairs that are not among the mined ones any more (schema CANDIDATES, scores null), by pair_id.

    Their decisions still count. Unless `quiet`, prints how many there are, and how many labels name unknown pairs.
    """
    tables = AnnotationTables(workspace, split)
    tasks, labels = no_gold(tables.tasks), no_gold(tables.counting_labels)["pair_id"]
    known = concatenated([mined["pair_id"], tasks["pair_id"]])
    cleared = tables.cleared["pair_id"]
    lost = len({*labels.filter(pa.array(~within(labels, known))).to_pylist()} | {
        *cleared.filter(pa.array(~within(cleared, known))).to_pylist()
    })  # fmt: skip
    if lost and not quiet:
        say(
            f"{lost} labelled or cleared pairs of split {split} are in no table any more, so their labels do not "
            "count; mine with the earlier settings to get them back"
        )
    former = tasks.filter(pa.array(within(tasks["pair_id"], labels) & ~within(tasks["pair_id"], mined["pair_id"])))
    former = former.filter(pa.array(first_of_each(former["pair_id"]))).sort_by("pair_id")
    former, gone = of_present_images(workspace, split, former)
    if gone and not quiet:
        say(
            f"split {split}: {number_of(gone, 'labelled pair names', 'labelled pairs name')} images that were removed "
            "since, and left out"
        )
    if former.num_rows and not quiet:
        say(
            f"split {split}: {number_of(former.num_rows, 'labelled pair is', 'labelled pairs are')} no longer among "
            "the mined ones; such labels count"
        )
    for field in CANDIDATES:
        if field.name not in former.column_names:
            former = former.append_column(field, pa.nulls(former.num_rows, field.type))
    return conform(former, CANDIDATES)


def labelled_images(workspace: Workspace) -> pa.Table:
    """Pool images (`query_id`) in any pair given to people, gold included, or mined by an earlier run of `mine`.

    None of them may be a distractor. Pictures that people labelled under an earlier id are included.
    """
    columns, shas = [], set[str]()
    for split in SPLITS:
        tables = AnnotationTables(workspace, split)
        shas |= {bytes_of(a) for _, a, _ in lost_pictures(workspace, split, tables.tasks, tables.labels) if a}
        columns.append(tables.tasks["query_id"])
        if (earlier := workspace.candidates(split) / FORMERLY_MINED).is_file():
            columns.append(read_table(earlier, ["query_id"])["query_id"])
        columns.append(tables.gold.filter(pc.equal(tables.gold["query_role"], "pool"))["query_id"])
    if shas and workspace.images("pool").is_file():
        pool = read_table(workspace.images("pool"), ["image_id", "sha256"])
        columns.append(pool.filter(pc.is_in(pool["sha256"], texts(shas)))["image_id"])
    return pa.table({"query_id": concatenated(columns)})


def labelled_under_other_ids(workspace: Workspace, split: str, twins: Mapping[str, TwinMap]) -> Labelled:
    """What people said of two pictures that the workspace has, while one of them had another id: labels by today's ids.

    A label counts until its annotator, or an adjudicator, labels the same two pictures again. twins: role → the ids
    that represent others.
    """
    tables, roles = AnnotationTables(workspace, split), ("pool", GALLERY[split])
    tasks, given = no_gold(tables.tasks), no_gold(without_set_aside(tables.valid_labels, tables.set_aside))
    lost = [
        (row, a, b) for row, a, b in lost_pictures(workspace, split, tasks, given) if a is not None and b is not None
    ]
    if not lost:
        return {}
    queries = _ids_of(workspace, roles[0], {a for _, a, _ in lost}, twins[roles[0]])
    references = _ids_of(workspace, roles[1], {b for _, _, b in lost}, twins[roles[1]])
    labels = given.take(pa.array([row for row, _, _ in lost], pa.int64()))
    newest: dict[tuple[Images, str], tuple[datetime, str]] = {}
    again: dict[tuple[Images, str], datetime] = {}
    for (_, a, b), (round_, annotator, moment, label) in zip(lost, keys(labels, "round", *_ANSWER), strict=True):
        for pair in product(queries[a], references[b]):
            newest[pair, annotator] = max((moment, label), newest.get((pair, annotator), (moment, label)))
            if round_ == "adjudication":
                again[pair, _ANYBODY] = max(moment, again.get((pair, _ANYBODY), moment))
    named = represented(tasks, {"query_id": twins[roles[0]], "reference_id": twins[roles[1]]})
    wanted, pairs = {pair for pair, _ in newest}, keys(named, "query_id", "reference_id", "pair_id")
    today = {name: (query, reference) for query, reference, name in pairs if (query, reference) in wanted}
    for name, round_, annotator, moment in keys(tables.counting_labels, "pair_id", "round", *_ANSWER[:2]):
        if name in today:
            for who in (annotator, _ANYBODY) if round_ == "adjudication" else (annotator,):
                again[today[name], who] = max(moment, again.get((today[name], who), moment))
    found: Labelled = defaultdict(set)
    for (pair, annotator), (moment, label) in newest.items():
        if all(again.get((pair, who), moment) <= moment for who in (annotator, _ANYBODY)):
            found[pair].add(label)
    return dict(found)


def _ids_of(workspace: Workspace, role: str, pictures: Collection[str], twins: TwinMap) -> dict[str, set[str]]:
    """Picture → ids of the images that show it today, each by the one that represents it."""
    found: dict[str, set[str]] = {picture: set() for picture in pictures}
    if workspace.images(role).is_file():
        table = read_table(workspace.images(role), ["image_id", "sha256", "rotation"])
        shown = picture_column(table)
        same = pa.array(within(shown, texts(pictures)))
        names = table["image_id"].filter(same).to_pylist(), shown.filter(same).to_pylist()
        for name, picture in zip(*names, strict=True):
            found[picture].add(twins.get(name, name))
    return found


def without_contradicted(
    kept: KeptQueries, copies: tuple[dict[str, str], dict[str, str]], labelled: Labelled
) -> tuple[KeptQueries, tuple[dict[str, str], dict[str, str]]]:
    """The kept queries and `confirmed_copies` without those of which `labelled` says something else."""
    confirmed, refused = copies
    against = set[str]()
    for (query, reference), labels in labelled.items():
        expected = {"hard_negative"} if reference in kept.kept.get(query, ()) else {"hard_negative", "unrelated"}
        if labels - ({"edited_copy"} if confirmed.get(query) == reference else expected):
            against.add(query)
    kept_out = dict.fromkeys(sorted(against & kept.kept.keys()), OTHERWISE)
    return (
        KeptQueries({name: of for name, of in kept.kept.items() if name not in against}, kept.dropped | kept_out),
        (
            {name: of for name, of in confirmed.items() if name not in against},
            refused | dict.fromkeys(sorted(against & confirmed.keys()), OTHERWISE),
        ),
    )


def confirmed_copies(pairs: pa.Table, decisions: pa.Table) -> tuple[dict[str, str], dict[str, str]]:
    """Pool images that people decided to be edited copies: ({query_id: reference_id}, {query_id: why it is none}).

    An image is confirmed if exactly one reference is its original by a person's decision, and every other pair of it is
    decided. Images without an edited_copy decision, and duplicates of a reference, are in neither.
    """
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision", "basis"))
    decided = {pair: (decision, basis) for pair, decision, basis in zip(*columns, strict=True)}
    seen: dict[str, list[tuple[str, str | None, str]]] = defaultdict(list)
    rows = (pairs[name].to_pylist() for name in ("pair_id", "query_id", "reference_id", "duplicate_of"))
    for pair, query, reference, duplicate in zip(*rows, strict=True):
        decision, basis = decided.get(pair, (None, None))
        seen[query].append(("duplicate" if duplicate else decision or "undecided", basis, reference))
    confirmed, refused = {}, {}
    for query, entries in sorted(seen.items()):
        kinds = {kind for kind, _, _ in entries}
        copies = {(reference, basis) for kind, basis, reference in entries if kind == "edited_copy"}
        originals = {reference for reference, _ in copies}
        if not copies or "duplicate" in kinds:
            continue
        if len(originals) > 1:
            refused[query] = SEVERAL
        elif kinds & {"unsure", "undecided"}:
            refused[query] = OPEN
        elif any(kind != "edited_copy" for kind, _, reference in entries if reference in originals):
            refused[query] = OTHERWISE
        elif {basis for _, basis in copies} == {"auto_cleared"}:
            refused[query] = UNSEEN
        else:
            confirmed[query] = originals.pop()
    return confirmed, refused
