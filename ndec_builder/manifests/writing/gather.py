"""Read everything a dataset is made from: images, decisions, truth, pairs of a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.records.given_labels import waiting_labels
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.candidates.kept_queries import KeptQueries, kept_queries
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.candidates.twins import read_twins
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import (
    CANDIDATES,
    DECISIONS,
    EDITS,
    GROUND_TRUTH,
    IMAGES,
    SPLITS,
    TRAIN_PAIRS,
    conform,
    pair_id,
)
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.arrow_ops import concatenated, filled, first_of_each, mask, row_numbers, take, texts, within
from ndec_builder.manifests.matches import with_facts_of_sources
from ndec_builder.manifests.writing.labelled_pairs import (
    Labelled,
    confirmed_copies,
    former_pairs,
    labelled_images,
    labelled_under_other_ids,
    without_contradicted,
)
from ndec_builder.manifests.writing.selection import Material
from ndec_builder.manifests.writing.twins import TwinMap, represented, represented_sources, twins_of, without_twins

INGESTED = "ingested"  # basis of a pair that came with another dataset


def read_material(
    workspace: Workspace,
    hard_queries: Path | None = None,
    preset: str = "own",
    confirmed: bool = True,
    train_only: bool = False,
) -> Material:
    """Read everything a dataset is made from. Without training decisions the training pairs are empty.

    Split test must be mined, unless hard queries are declared or a preset finds them by their ids. Of images that
    show the same picture within a role one is kept, except with a preset, whose parts are given. `confirmed`: pool
    images that people decided to be edited copies become queries. `train_only`: split test need be neither mined
    nor decided, and references are not needed.
    """
    images = {role: _images(workspace, role) for role in ("reference", "pool", "basic")}
    if not images["reference"].num_rows and not train_only:
        workspace.read_images("reference")  # says what to do
    own = preset == "own"
    twins = {role: twins_of(table, read_twins(workspace, role)) if own else {} for role, table in images.items()}
    images = {role: without_twins(table, twins[role]) for role, table in images.items()}
    tables = {split: _candidates(workspace, split, twins) for split in SPLITS}
    edits = conform(read_table(workspace.edits), EDITS) if workspace.edits.is_file() else EDITS.empty_table()
    truth = GROUND_TRUTH.empty_table()
    if workspace.ground_truth.is_file():
        truth = read_table(workspace.ground_truth, GROUND_TRUTH.names)
    truth, edits = represented(truth, {"reference_id": twins["reference"]}), represented_sources(edits, twins)
    queries = with_facts_of_sources(_images(workspace, "query"), edits, images)
    hard = read_hard_queries(hard_queries, queries) if hard_queries else pa.array([], pa.string())
    released = with_pair_ids(
        represented(released_pairs(workspace), {"former_id": twins["basic"], "latter_id": twins["pool"]})
    )
    labelled = {split: labelled_under_other_ids(workspace, split, twins) if own else {} for split in SPLITS}
    pairs, otherwise = _train_pairs(workspace, tables["train"], released if own else None, labelled["train"])
    pairs = pa.concat_tables([pairs, released.filter(pa.array(~within(released["pair_id"], texts(sorted(otherwise)))))])
    pairs = pairs.filter(pa.array(first_of_each(pairs["pair_id"])))
    used = [table["query_id"] for table in tables.values() if table is not None]
    used += [released["latter_id"], represented(labelled_images(workspace), {"query_id": twins["pool"]})["query_id"]]
    test = None if train_only else tables["test"]
    kept = _kept(workspace, test, bool(len(hard)) or preset != "own" or train_only)
    found = ({}, {}) if test is None or not confirmed or preset != "own" else confirmed_copies(
        test, _decisions(workspace, "test")
    )  # fmt: skip
    kept, found = without_contradicted(kept, found, labelled["test"])
    return Material(
        references=images["reference"],
        pool=images["pool"],
        queries=queries,
        basic=images["basic"],
        edits=edits,
        truth=truth,
        kept=kept,
        train_pairs=pairs,
        labelled_otherwise=len(otherwise),
        mined=concatenated(used).combine_chunks(),
        hard_queries=hard,
        released=released,
        confirmed=found[0],
        copies_left_out=found[1],
        twins={role: len(those) for role, those in twins.items() if those},
        train_only=train_only,
        test_mined=texts([]) if tables["test"] is None else tables["test"]["query_id"].combine_chunks(),
    )


def with_distinct_ids(material: Material) -> Material:
    """Give pool images that share an id with a query or a basic image the id `pool/ID` in the dataset.

    A person who labelled pairs cannot rename files any more. `renamed` of the result says which ids changed. Ids of
    queries and basic images stay: predictions and ground truth of the user name them.
    """
    others = set(concatenated([material.queries["image_id"], material.basic["image_id"]]).to_pylist())
    pool = material.pool["image_id"].to_pylist()
    taken, names = others | set(pool), dict[str, str]()
    for name in sorted(others & set(pool)):
        new = f"pool/{name}"
        while new in taken:
            new = f"pool/{new}"
        taken.add(new)
        names[name] = new
    if not names:
        return material
    old = {new: name for name, new in names.items()}
    find, kept = material.close_to_references, material.kept
    pairs, released = (
        with_pair_ids(represented(table, {"latter_id": names})) for table in (material.train_pairs, material.released)
    )
    own, edits = pc.equal(material.edits["role"], "pool"), material.edits
    return replace(
        material,
        pool=represented(material.pool, {"image_id": names}).sort_by("image_id").combine_chunks(),
        edits=pa.concat_tables([represented(edits.filter(own), {"image_id": names}), edits.filter(pc.invert(own))]),
        kept=KeptQueries(_renamed(kept.kept, names), _renamed(kept.dropped, names)),
        train_pairs=pairs,
        released=released,
        mined=texts(names.get(name, name) for name in material.mined.to_pylist()),
        confirmed=_renamed(material.confirmed, names),
        copies_left_out=_renamed(material.copies_left_out, names),
        close_to_references=find
        and (lambda ids: {names.get(name, name) for name in find([old.get(each, each) for each in ids])}),
        renamed=names,
    )


def renamed_images(material: Material, tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Id in the dataset → id in the workspace, of the pool images in `tables` that `with_distinct_ids` renamed."""
    ids = concatenated([tables["queries"]["query_id"], tables["train_pair_images"]["image_id"]])
    used = set(ids.to_pylist()) if material.renamed else set()
    return {new: name for name, new in material.renamed.items() if new in used}


def _renamed(by_id: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in by_id.items()}


def read_hard_queries(path: Path, queries: pa.Table) -> pa.Array:
    """Ids of a list, one a line, BOM and CRLF allowed. Raises UsageError without it, NdecError for unknown ids."""
    if not path.is_file():
        raise UsageError(f"--hard-queries {path} is not a file; give a text file with one query id a line")
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"--hard-queries {path} is not UTF-8 text; give one query id a line") from None
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    unknown = sorted(set(ids) - set(queries["image_id"].to_pylist()))
    if unknown or not ids:
        raise NdecError(
            f"--hard-queries {path} names {len(ids)} ids, {len(unknown)} of them are not ingested queries"
            f"{f' ({unknown[0]!r} first)' if unknown else ''}; list ids of `ndec ingest query`, one a line"
        )
    return texts(ids)


def _images(workspace: Workspace, role: str) -> pa.Table:
    if not workspace.images(role).is_file():
        return IMAGES.empty_table()
    return conform(workspace.read_images(role), IMAGES).sort_by("image_id")


def _candidates(workspace: Workspace, split: str, twins: Mapping[str, TwinMap]) -> pa.Table | None:
    """Mined pairs, and labelled ones that a later mining did not find again, by the images that represent them."""
    mined = bool(workspace.candidate_files(split))
    if not mined and not (workspace.annotation(split) / "tasks.parquet").is_file():
        return None
    table = all_candidates(workspace, split) if mined else CANDIDATES.empty_table()
    table = pa.concat_tables([table, former_pairs(workspace, split, table)])
    return represented(table, {"query_id": twins["pool"], "reference_id": twins[GALLERY[split]]})


def _decisions(workspace: Workspace, split: str) -> pa.Table:
    path = workspace.annotation(split) / "decisions.parquet"
    if not path.is_file():
        given = bool(waiting_labels(AnnotationTables(workspace, split)))
        raise NdecError(
            f"split {split} is mined but not decided: {path} does not exist; {_next_step(path, split, given)}"
        )
    decisions = read_table(path, DECISIONS.names)
    replaced = AnnotationTables(workspace, split).replaced  # since the last resolve
    if replaced:
        say(
            f"split {split}: {number_of(len(replaced), 'labelled pair is', 'labelled pairs are')} left out, because an "
            f"image was replaced after they were labelled (first pair: {min(replaced)}); `ndec annotate push --split "
            f"{split}` asks again"
        )
    return decisions.filter(pa.array(~within(decisions["pair_id"], texts(sorted(replaced)))))


def _next_step(decisions: Path, split: str, given: bool) -> str:
    """What to do before a split can be exported."""
    steps = [f"`ndec annotate {verb} --split {split}`" for verb in ("push", "pull", "resolve")]
    if given:
        return f"labels came with a file of pairs: run {steps[2]}"
    if decisions.with_name("labels.parquet").is_file():
        return f"its labels are pulled: run {steps[2]}"
    if decisions.with_name("tasks.parquet").is_file():
        return f"its pairs are handed out: when people have labelled them, run {steps[1]} and {steps[2]}"
    # only mined: nothing of people is lost with the folder
    without = ", or delete candidates/train for a dataset without training pairs" if split == "train" else ""
    return f"run {steps[0]}, let people label the pairs, then {steps[1]} and {steps[2]}{without}"


def _kept(workspace: Workspace, candidates: pa.Table | None, declared: bool) -> KeptQueries:
    if candidates is None and declared:
        return KeptQueries({}, {})
    if candidates is None:
        raise NdecError(
            f"split test is not mined in {workspace.root}, so there are no hard negatives to export; "
            f"run `ndec mine --split test`, label the pairs, then export (or name ingested queries that are hard "
            f"negatives with --hard-queries FILE)"
        )
    return kept_queries(candidates, _decisions(workspace, "test"))


def _train_pairs(
    workspace: Workspace, candidates: pa.Table | None, released: pa.Table | None, labelled: Labelled
) -> tuple[pa.Table, set[str]]:
    """Pairs that people decided to be hard negatives, and ids of hard negatives that they decided to be something else.

    The same two pictures can be in several pairs: under the ids of twins, under ids that they had before (`labelled`),
    and in an ingested release. One decision that they are a copy, or unsure, outweighs others, as does any other label
    of `labelled`. Any decision outweighs `released` (None: its pairs are given).
    """
    if candidates is None:
        return TRAIN_PAIRS.empty_table(), set()
    decisions = _decisions(workspace, "train")
    place = row_numbers(candidates["pair_id"], decisions["pair_id"])
    rows, names = take(decisions, place), {"reference_id": "former_id", "query_id": "latter_id"}
    pairs = candidates.select(["pair_id", *names, "score"]).rename_columns(["pair_id", *names.values(), "score"])
    pairs = _named_by_images(conform(pairs.append_column("basis", rows["basis"]), TRAIN_PAIRS))
    ids, duplicate, decided = pairs["pair_id"], filled(candidates["duplicate_of"]), filled(rows["decision"])
    hard = mask(pc.equal(rows["decision"], "hard_negative")) & ~duplicate
    against = within(rows["decision"], texts(["edited_copy", "unsure"])) | duplicate
    denied = {pair_id("train", *pair) for pair, labels in labelled.items() if labels != {"hard_negative"}}
    kept = hard & ~within(ids, ids.filter(pa.array(against))) & ~within(ids, texts(denied))
    otherwise = set(ids.filter(pa.array(hard & ~kept)).to_pylist())
    if released is not None:
        others = denied | set(ids.filter(pa.array(decided)).to_pylist()) - set(ids.filter(pa.array(kept)).to_pylist())
        otherwise |= others & set(released["pair_id"].to_pylist())
    return pairs.filter(pa.array(kept)), otherwise


def released_pairs(workspace: Workspace) -> pa.Table:
    """Pairs that came with another dataset, under the same ids as mined ones; without a score."""
    if not workspace.pairs.is_file():
        return TRAIN_PAIRS.empty_table()
    table = read_table(workspace.pairs, ["former_id", "latter_id"])
    count = table.num_rows
    columns = {
        "pair_id": texts([""] * count),
        "score": pa.nulls(count, pa.float32()),
        "basis": texts([INGESTED] * count),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return with_pair_ids(conform(table, TRAIN_PAIRS))


def with_pair_ids(pairs: pa.Table) -> pa.Table:
    """Training pairs (schema TRAIN_PAIRS) with the id of their two images, each pair once."""
    pairs = _named_by_images(pairs)
    return pairs.filter(pa.array(first_of_each(pairs["pair_id"])))


def _named_by_images(pairs: pa.Table) -> pa.Table:
    latters, formers = (pairs[name].to_pylist() for name in ("latter_id", "former_id"))
    ids = texts(pair_id("train", latter, former) for latter, former in zip(latters, formers, strict=True))
    return pairs.set_column(0, TRAIN_PAIRS.field("pair_id"), ids)
