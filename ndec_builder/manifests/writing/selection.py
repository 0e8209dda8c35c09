"""Select the six tables of a dataset from decided pairs, by the design's "From pairs to a dataset". On columns.

Everything left out is counted with its reason. An image or group that would be on both sides is left out of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.kept_queries import KeptQueries
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import MANIFEST_TABLES, QUERIES, REFERENCES, TRAIN_PAIRS, conform
from ndec_builder.manifests.arrow_ops import (
    ArrowColumn,
    concatenated,
    filled,
    first_of_each,
    mask,
    reasons,
    refuse_clash,
    row_numbers,
    take,
    texts,
    within,
)
from ndec_builder.manifests.matches import direct_matches, matches_of_copies, unclear_copies
from ndec_builder.manifests.writing.distractors import CLOSE, GROUPED, FindClose, below_the_cut
from ndec_builder.manifests.writing.labelled_pairs import OTHERWISE
from ndec_builder.manifests.writing.twins import twin_drops


@dataclass(frozen=True)
class Material:
    """What a dataset is made from. The first four are images tables, ascending by image_id."""

    references: pa.Table
    pool: pa.Table
    queries: pa.Table  # edited copies and whatever the user ingested
    basic: pa.Table
    edits: pa.Table
    truth: pa.Table  # schema GROUND_TRUTH: the user's
    kept: KeptQueries  # of split test
    train_pairs: pa.Table  # schema TRAIN_PAIRS: decided hard_negative, or ingested as such
    mined: pa.Array  # pool images in any pair that was mined, given to people or ingested
    hard_queries: pa.Array  # ids of ingested queries that are hard negatives
    released: pa.Table = field(default_factory=TRAIN_PAIRS.empty_table)  # the ingested ones of train_pairs
    confirmed: Mapping[str, str] = field(default_factory=dict)  # pool image → the reference people say it is a copy of
    copies_left_out: Mapping[str, str] = field(default_factory=dict)  # pool image labelled edited_copy → why it is none
    labelled_otherwise: int = 0  # pairs that are not among train_pairs, because people also gave them another label
    renamed: Mapping[str, str] = field(default_factory=dict)  # pool image → its id in the dataset
    twins: Mapping[str, int] = field(default_factory=dict)  # role → images left out that show the picture of another
    # which of some pool images reach the mining cut with a reference; None: there are no vectors to compare
    close_to_references: FindClose | None = None
    train_only: bool = False  # the tables of the test stay empty
    test_mined: pa.Array | None = None  # with train_only: pool images in pairs that were mined for the test


@dataclass(frozen=True)
class DatasetSelection:
    """The tables of MANIFEST_TABLES by name, and the numbers left out, by table and reason."""

    tables: dict[str, pa.Table]
    dropped: dict[str, dict[str, int]]
    distractors_drawn: int
    confirmed_copies: int = 0  # queries that people decided to be edited copies
    distractors_compared: bool = False  # all drawn distractors are below the mining cut
    renamed: Mapping[str, str] = field(
        default_factory=dict
    )  # id in the dataset → id of the pool image in the workspace


def select_tables(material: Material, distractors: int, seed: int) -> DatasetSelection:
    """Build all tables. Raises NdecError without positives, for clashing ids or a contradictory truth."""
    if material.train_only:
        return _training_alone(material)
    matches = positives(material)
    references = conform(material.references, REFERENCES)
    queries, unclear = _without_unclear(material, _ingested(material, matches), matches)
    copies, copy_drops = _confirmed_copies(material, queries)
    matches |= {name: material.confirmed[name] for name in copies["query_id"].to_pylist()}
    if not matches:
        raise NdecError(
            "there is no query with a reference, so this test set would have no positives; make edited copies with "
            "`ndec edit --role reference --count N`, or bring your own with "
            "`ndec ingest query FOLDER --ground-truth CSV`, then export again"
        )
    queries = pa.concat_tables([queries, copies])
    hard, test_drops = _hard_negatives(material, queries, copy_drops)
    refuse_clash("queries", [queries["query_id"], hard["query_id"]], "an ingested query and a pool image")
    closed = _Closed.of(references, queries, hard)
    train, train_drops = _training(material, closed)
    drawn, distractor_drops = _distractors(material, closed, train, distractors, seed)
    everything = pa.concat_tables([queries, hard, drawn]).sort_by("query_id").combine_chunks()
    truth = pa.table(
        {
            "query_id": everything["query_id"],
            "reference_id": texts(matches.get(name) for name in everything["query_id"].to_pylist()),
        }
    )
    tables = {"queries": everything, "references": references, "ground_truth": truth, **train}
    return DatasetSelection(
        {name: conform(tables[name], schema) for name, (_, schema) in MANIFEST_TABLES.items()},
        {"test_pool_images": test_drops, **train_drops, **distractor_drops, **unclear} | twin_drops(material.twins),
        drawn.num_rows,
        copies.num_rows,
        distractors_compared=bool(distractors) and material.close_to_references is not None,
    )


def _training_alone(material: Material) -> DatasetSelection:
    """The training tables, without any image that could be in a test set of this workspace."""
    mined = material.pool.filter(pa.array(within(material.pool["image_id"], material.test_mined)))
    train, drops = _training(material, _Closed.of(material.references, material.queries, mined))
    if not train["train_basic"].num_rows:
        raise NdecError(
            "there is no training image to export: run `ndec ingest basic FOLDER`, mine and label with --split train, "
            f"then export again ({len(material.basic)} basic images; left out: {drops['train_basic'] or 'none'})"
        )
    empty = {name: schema.empty_table() for name, (_, schema) in MANIFEST_TABLES.items()}
    tables = {name: conform(train.get(name, table), table.schema) for name, table in empty.items()}
    return DatasetSelection(tables, drops | twin_drops(material.twins), 0)


def positives(material: Material) -> dict[str, str]:
    """Return {query_id: reference_id} from the edits table and the user's ground truth.

    Raises NdecError for an unknown reference and for a query with more than one, which this protocol excludes.
    """
    ids, references = material.queries["image_id"], material.references["image_id"]
    matches = direct_matches(material.edits, material.truth, ids, references)
    old = {new: name for name, new in material.renamed.items()}  # the edits name sources as the workspace does
    there = set(references.to_pylist())
    confirmed = {old.get(name, name): origin for name, origin in material.confirmed.items() if origin in there}
    return matches | matches_of_copies(material.edits, matches, confirmed, ids)


def _ingested(material: Material, matches: dict[str, str]) -> pa.Table:
    """Ingested queries as rows of QUERIES: edited_copy with a reference, hard_negative if declared, else distractor."""
    ids = material.queries["image_id"]
    hard = within(ids, material.hard_queries)
    matched = within(ids, texts(matches))
    if (both := hard & matched).any():
        raise NdecError(
            f"{int(both.sum())} queries are declared hard negatives and have a reference in the ground truth, "
            f"{ids.filter(pa.array(both))[0].as_py()!r} first; a hard negative has none: correct one of the two lists"
        )
    kinds = np.where(matched, "edited_copy", np.where(hard, "hard_negative", "distractor"))
    own = material.edits.filter(pc.equal(material.edits["role"], "query"))
    place = row_numbers(ids, own["image_id"])
    edits = take(own["edit"], place)
    hard_kinds = pa.array(["natural" if declared else None for declared in hard], pa.string())
    return _queries(material.queries, pa.array(kinds, pa.string()), hard_kinds, edits)


def _without_unclear(
    material: Material, queries: pa.Table, matches: Mapping[str, str]
) -> tuple[pa.Table, dict[str, dict[str, int]]]:
    """Leave out copies of which nobody knows what they show, unless the user's ground truth or list names them."""
    dropped = [name for name, reason in material.kept.dropped.items() if reason != "no_hard_negative"]
    old = {new: name for name, new in material.renamed.items()}  # the edits name sources as the workspace does
    named = {*matches, *material.truth["query_id"].to_pylist(), *material.hard_queries.to_pylist()}
    found = unclear_copies(material.edits, material.queries, {old.get(name, name) for name in dropped})
    unclear = {name: reason for name, reason in found.items() if name not in named}
    if not unclear:
        return queries, {}
    counts = dict(sorted(Counter(unclear.values()).items()))
    return queries.filter(pa.array(~within(queries["query_id"], texts(unclear)))), {"queries": counts}


def _confirmed_copies(material: Material, queries: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """Confirmed copies as queries, one per file, their edit unknown; and {query_id: why} of those that are none."""
    names, origins = texts(material.confirmed), texts(material.confirmed.values())
    row = row_numbers(names, material.pool["image_id"])
    rows = take(material.pool, row)
    known = within(origins, material.references["image_id"])
    taken = within(rows["sha256"], concatenated([material.references["sha256"], queries["sha256"]]))
    tests = [("no_longer_in_pool", row < 0), ("copy_of_a_reference_that_is_gone", ~known),
             ("same_bytes_as_another_image", taken | ~first_of_each(rows["sha256"]))]  # fmt: skip
    drops = dict(material.copies_left_out)
    chosen = np.ones(len(names), dtype=bool)
    for reason, failed in tests:
        drops |= dict.fromkeys(names.filter(pa.array(chosen & failed)).to_pylist(), reason)
        chosen &= ~failed
    rows = rows.filter(pa.array(chosen))
    nothing = pa.nulls(len(rows), pa.string())
    return _queries(rows, texts(["edited_copy"] * len(rows)), nothing, nothing), drops


def _hard_negatives(
    material: Material, queries: pa.Table, copies: Mapping[str, str]
) -> tuple[pa.Table, dict[str, int]]:
    """Kept pool images as queries, one per file; the drop counts cover every other mined pool image.

    `copies`: why images that people call edited copies are no queries.
    """
    edits = material.edits
    reverse = mask(pc.equal(edits["role"], "pool")) & mask(pc.equal(edits["kind"], "reverse_crop"))
    reverse &= within(edits["source_id"], material.references["image_id"])
    reverse_crops = edits["image_id"].filter(pa.array(reverse))
    kept_out = {name: copies.get(name, reason) for name, reason in material.kept.dropped.items()}
    drops = Counter(reason for name, reason in kept_out.items() if name in copies or name not in material.confirmed)
    place = row_numbers(texts(sorted(material.kept.kept)), material.pool["image_id"])
    if gone := int((place < 0).sum()):
        drops["no_longer_in_pool"] += gone
    rows = material.pool.take(pa.array(place[place >= 0]))
    taken = within(rows["sha256"], concatenated([material.references["sha256"], queries["sha256"]]))
    fresh = ~taken & first_of_each(rows["sha256"])
    if same := int((~fresh).sum()):
        drops["same_bytes_as_another_image"] += same
    rows = rows.filter(pa.array(fresh))
    hard_kinds = np.where(within(rows["image_id"], reverse_crops), "reverse_crop", "natural")
    kinds = pa.array(["hard_negative"] * len(rows), pa.string())
    found = _queries(rows, kinds, pa.array(hard_kinds, pa.string()), pa.nulls(len(rows), pa.string()))
    return found, dict(sorted(drops.items()))


@dataclass(frozen=True)
class _Closed:
    """Files and groups of one side, which the other side must not have."""

    hashes: pa.ChunkedArray
    groups: pa.ChunkedArray

    @classmethod
    def of(cls, *tables: pa.Table) -> _Closed:
        groups = concatenated(table["group"] for table in tables)
        return cls(concatenated(table["sha256"] for table in tables), groups.filter(pa.array(filled(groups))))

    def tests(self, rows: pa.Table, prefix: str = "") -> list[tuple[str, np.ndarray]]:
        return [
            (f"{prefix}same_bytes_as_a_test_image", within(rows["sha256"], self.hashes)),
            (f"{prefix}group_of_a_test_image", within(rows["group"], self.groups)),
        ]


def _training(material: Material, closed: _Closed) -> tuple[dict[str, pa.Table], dict[str, dict[str, int]]]:
    """The three training tables without files or groups of the test side, and what was left out."""
    fits, basic_drops = reasons(len(material.basic), closed.tests(material.basic))
    basic = conform(material.basic.filter(pa.array(fits)), REFERENCES)
    pairs = conform(material.train_pairs.sort_by("pair_id"), TRAIN_PAIRS)
    place = row_numbers(pairs["latter_id"], material.pool["image_id"])
    latters = take(material.pool, place)
    tests = [
        ("latter_no_longer_in_pool", place < 0),
        *closed.tests(latters, "latter_"),
        ("former_not_in_train_basic", ~within(pairs["former_id"], basic["image_id"])),
    ]
    fits, pair_drops = reasons(len(pairs), tests)
    if material.labelled_otherwise:
        pair_drops = {OTHERWISE: material.labelled_otherwise} | pair_drops
    pairs = pairs.filter(pa.array(fits))
    extra = conform(material.pool.take(pa.array(np.unique(place[fits]))), REFERENCES)
    refuse_clash("training images", [basic["image_id"], extra["image_id"]], "a basic image and a pool image")
    tables = {"train_basic": basic, "train_pairs": pairs, "train_pair_images": extra}
    return tables, {"train_basic": basic_drops, "train_pairs": pair_drops}


def _distractors(
    material: Material, closed: _Closed, train: dict[str, pa.Table], count: int, seed: int
) -> tuple[pa.Table, dict[str, dict[str, int]]]:
    """Draw unmined pool images that share no file with any image, and no group with a training image or reference.

    Images that reach the mining cut with a reference are passed over. Also returns the unmined images that were not
    used, by reason.
    """
    pool = material.pool
    if not count:
        return QUERIES.empty_table(), {}
    training = _Closed.of(train["train_basic"], train["train_pair_images"])
    groups = concatenated([_Closed.of(material.references).groups, training.groups])
    bad = within(pool["image_id"], material.mined) | within(pool["image_id"], material.queries["image_id"])
    labelled = pool["sha256"].filter(pa.array(within(pool["image_id"], material.mined)))
    hashes = concatenated([closed.hashes, training.hashes, labelled])
    grouped = within(pool["group"], groups) & ~bad
    same = within(pool["sha256"], hashes) & ~bad & ~grouped
    free = pool.filter(pa.array(~(bad | grouped | same)))
    fresh = first_of_each(free["sha256"])
    drops = {GROUPED: int(grouped.sum()), "same_bytes_as_another_image": int(same.sum() + (~fresh).sum())}
    free = free.filter(pa.array(fresh))
    places, drops[CLOSE] = below_the_cut(free["image_id"], count, seed, material.close_to_references)
    chosen = free.take(pa.array(places))
    nothing = pa.nulls(len(chosen), pa.string())
    drawn = _queries(chosen, pa.array(["distractor"] * len(chosen), pa.string()), nothing, nothing)
    return drawn, {"distractors": {reason: number for reason, number in drops.items() if number}}


def _queries(images: pa.Table, kinds: pa.Array, hard_kinds: pa.Array, edits: ArrowColumn) -> pa.Table:
    rows = images.rename_columns({"image_id": "query_id"})
    for name, column in (("kind", kinds), ("hard_kind", hard_kinds), ("edit", edits)):
        rows = rows.append_column(name, column)
    return conform(rows, QUERIES)
