"""From decided pairs to the six tables of a dataset, by the design's "From pairs to a dataset". Pure functions.

Whatever is left out is counted with its reason. Where an image or a group would be on both sides, training loses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.kept import Kept
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LICENCE_COLUMNS, MANIFEST_TABLES, table_of

Row = dict[str, Any]
NO_GROUP = (None, "")


@dataclass(frozen=True)
class TrainPair:
    """A pair decided hard_negative: former = basic image, latter = pool image."""

    pair_id: str
    former_id: str
    latter_id: str
    score: float
    basis: str


@dataclass(frozen=True)
class Material:
    """What a dataset is made from. Image rows are those of the images tables, ascending by image_id."""

    references: Sequence[Row]
    pool: Mapping[str, Row]
    queries: Sequence[Row]  # edited copies and whatever the user ingested
    basic: Sequence[Row]
    edits: Sequence[Row]
    truth: Mapping[str, Sequence[str]]  # query_id → reference ids, from the user's ground truth
    kept: Kept  # of split test
    train_pairs: Sequence[TrainPair]
    mined: frozenset[str]  # pool images in any candidate pair of either split


@dataclass(frozen=True)
class Selection:
    """The tables of MANIFEST_TABLES by name, and how many of what were left out, by reason."""

    tables: dict[str, pa.Table]
    dropped: dict[str, dict[str, int]]
    distractors_drawn: int


def select(material: Material, distractors: int, seed: int) -> Selection:
    """Build all tables. Raises NdecError without positives, for clashing ids or a contradictory truth."""
    matches = positives(material)
    if not matches:
        raise NdecError(
            "there is no query with a reference, so this test set would have no positives; make edited copies with "
            "`ndec edit --role reference --count N`, or bring your own with "
            "`ndec ingest query FOLDER --ground-truth CSV`, then export again"
        )
    references = [_image(row) for row in material.references]
    edits = {row["image_id"]: row["edit"] for row in material.edits if row["role"] == "query"}
    queries = [
        _query(row, "edited_copy" if row["image_id"] in matches else "distractor", edit=edits.get(row["image_id"]))
        for row in material.queries
    ]
    hard, test_drops = _hard_negatives(material, queries)
    _refuse_clash("queries", "query_id", queries + hard, "an ingested query and a pool image")
    closed = _Closed.of([*references, *queries, *hard])
    train, train_drops = _training(material, closed)
    drawn = _distractors(material, closed, train, distractors, seed)
    everything = sorted(queries + hard + drawn, key=lambda row: row["query_id"])
    truth = [{"query_id": row["query_id"], "reference_id": matches.get(row["query_id"])} for row in everything]
    rows = {"queries": everything, "references": references, "ground_truth": truth, **train}
    return Selection(
        {name: table_of(schema, rows[name]) for name, (_, schema) in MANIFEST_TABLES.items()},
        {"test_pool_images": test_drops, **train_drops},
        len(drawn),
    )


def positives(material: Material) -> dict[str, str]:
    """Return {query_id: reference_id} from the edits table and the user's ground truth.

    Raises NdecError for a reference that is not there and for a query with more than one, which this protocol excludes.
    """
    known = {row["image_id"] for row in material.references}
    found: dict[str, set[str]] = {row["image_id"]: set() for row in material.queries}
    for row in material.edits:
        made = (row["role"], row["kind"], row["source_role"]) == ("query", "edited_copy", "reference")
        if made and row["image_id"] in found:
            found[row["image_id"]].add(row["source_id"])
    for query_id, matches in material.truth.items():
        if query_id in found:
            found[query_id].update(matches)
    for query_id, reference_ids in found.items():
        if unknown := sorted(reference_ids - known):
            raise NdecError(
                f"the query {query_id!r} is a copy of the reference {unknown[0]!r}, which is not among the "
                f"{len(known)} reference images; ingest that image or correct the ground truth"
            )
        if len(reference_ids) > 1:
            raise NdecError(
                f"the query {query_id!r} has {len(reference_ids)} references ({', '.join(sorted(reference_ids)[:3])}); "
                f"every query has at most one: keep the best match in the ground truth and ingest it again"
            )
    return {query_id: next(iter(ids)) for query_id, ids in found.items() if ids}


def _hard_negatives(material: Material, queries: Sequence[Row]) -> tuple[list[Row], dict[str, int]]:
    """Kept pool images as queries, one per file; the drop counts hold every other pool image that was mined."""
    references = {row["image_id"] for row in material.references}
    wholes = {
        row["image_id"]
        for row in material.edits
        if (row["role"], row["kind"]) == ("pool", "reverse_crop") and row["source_id"] in references
    }
    taken = {row["sha256"] for row in [*material.references, *queries]}
    drops = Counter(material.kept.dropped.values())
    rows = []
    for query_id in sorted(material.kept.kept):
        row = material.pool.get(query_id)
        if row is None:
            drops["no_longer_in_pool"] += 1
        elif row["sha256"] in taken:
            drops["same_bytes_as_another_image"] += 1
        else:
            taken.add(row["sha256"])
            rows.append(_query(row, "hard_negative", "reverse_crop" if query_id in wholes else "natural"))
    return rows, dict(sorted(drops.items()))


@dataclass(frozen=True)
class _Closed:
    """Files and groups that one side has; the other may not."""

    hashes: frozenset[str]
    groups: frozenset[str]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> _Closed:
        rows = list(rows)
        return cls(
            frozenset(row["sha256"] for row in rows), frozenset(row["group"] for row in rows) - frozenset(NO_GROUP)
        )

    def reason(self, row: Row) -> str | None:
        if row["sha256"] in self.hashes:
            return "same_bytes_as_a_test_image"
        return "group_of_a_test_image" if row["group"] in self.groups else None


def _training(material: Material, closed: _Closed) -> tuple[dict[str, list[Row]], dict[str, dict[str, int]]]:
    """The three training tables without anything of the test side, and the drops of basic images and of pairs."""
    basic_drops, pair_drops = Counter[str](), Counter[str]()
    basic: dict[str, Row] = {}
    for row in material.basic:
        if reason := closed.reason(row):
            basic_drops[reason] += 1
        else:
            basic[row["image_id"]] = _image(row)
    pairs, latters = [], {}
    for pair in sorted(material.train_pairs, key=lambda pair: pair.pair_id):
        latter = material.pool.get(pair.latter_id)
        if latter is None:
            pair_drops["latter_no_longer_in_pool"] += 1
        elif reason := closed.reason(latter):
            pair_drops[f"latter_{reason}"] += 1
        elif pair.former_id not in basic:
            pair_drops["former_not_in_train_basic"] += 1
        else:
            pairs.append(vars(pair))
            latters[pair.latter_id] = _image(latter)
    extra = [latters[image_id] for image_id in sorted(latters)]
    _refuse_clash("training images", "image_id", [*basic.values(), *extra], "a basic image and a pool image")
    tables = {"train_basic": list(basic.values()), "train_pairs": pairs, "train_pair_images": extra}
    drops = {"train_basic": dict(sorted(basic_drops.items())), "train_pairs": dict(sorted(pair_drops.items()))}
    return tables, drops


def _distractors(
    material: Material, closed: _Closed, train: Mapping[str, list[Row]], count: int, seed: int
) -> list[Row]:
    """Draw unmined pool images that share no file with anything, and no group with a training image or a reference."""
    training = _Closed.of([*train["train_basic"], *train["train_pair_images"]])
    groups = _Closed.of(material.references).groups | training.groups
    taken_ids = {row["image_id"] for row in material.queries}
    hashes = set(closed.hashes | training.hashes)
    free = []
    for image_id in sorted(material.pool):
        row = material.pool[image_id]
        if image_id in material.mined or image_id in taken_ids or row["group"] in groups or row["sha256"] in hashes:
            continue
        hashes.add(row["sha256"])
        free.append(row)
    order = np.random.default_rng(seed).permutation(len(free))[:count]
    return [_query(free[position], "distractor") for position in order]


def _query(row: Row, kind: str, hard_kind: str | None = None, edit: str | None = None) -> Row:
    rest = {name: row[name] for name in ("group", "uri", "sha256", *LICENCE_COLUMNS)}
    return {"query_id": row["image_id"], "kind": kind, "hard_kind": hard_kind, "edit": edit, **rest}


def _image(row: Row) -> Row:
    return {name: row[name] for name in ("image_id", "group", "uri", "sha256", *LICENCE_COLUMNS)}


def _refuse_clash(table: str, key: str, rows: Iterable[Row], who: str) -> None:
    twice = [name for name, times in Counter(row[key] for row in rows).items() if times > 1]
    if twice:
        raise NdecError(
            f"{len(twice)} ids name two {table}, {min(twice)!r} first: {who} have the same id; "
            f"rename the files of one of the two folders (an id is a file name without its ending) and ingest it again"
        )
