"""Which reference each ingested or made query shows, by the edits table and the user's ground truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LICENCE_COLUMNS
from ndec_builder.edits.sources import files_of_copies
from ndec_builder.manifests.arrow_ops import ArrowColumn, concatenated, mask, texts, within

UNCLEAR = "copy_of_a_pool_image_without_a_clear_decision"
LOST = "copy_of_an_image_that_was_replaced_or_removed"
_Image = tuple[str, str]  # role, image_id


def direct_matches(
    edits: pa.Table, truth: pa.Table, query_ids: ArrowColumn, reference_ids: ArrowColumn
) -> dict[str, str]:
    """{query_id: reference_id} of copies of references, and of the ground truth (schema GROUND_TRUTH).

    Raises NdecError for an unknown reference and for a query with more than one, which this protocol excludes.
    """
    made = edits.filter(pa.array(_copies(edits) & mask(pc.equal(edits["source_role"], "reference"))))
    truth = truth.filter(pc.is_valid(truth["reference_id"]))
    queries = concatenated([made["image_id"], truth["query_id"]])
    references = concatenated([made["source_id"], truth["reference_id"]])
    there = pa.array(within(queries, query_ids))
    queries, references = queries.filter(there), references.filter(there)
    unknown = references.filter(pa.array(~within(references, reference_ids)))
    pairs: dict[str, set[str]] = {}
    for query_id, reference_id in zip(queries.to_pylist(), references.to_pylist(), strict=True):
        pairs.setdefault(query_id, set()).add(reference_id)
    if len(unknown):
        gone = unknown[0].as_py()
        query_id = min(name for name, ids in pairs.items() if gone in ids)
        raise NdecError(
            f"the query {query_id!r} is a copy of the reference {gone!r}, which is not among the "
            f"{len(reference_ids)} reference images; ingest that image or correct the ground truth"
        )
    for query_id, ids in pairs.items():
        if len(ids) > 1:
            raise NdecError(
                f"the query {query_id!r} has {len(ids)} references ({', '.join(sorted(ids)[:3])}); "
                f"every query has at most one. If these references show the same picture, remove all but one of them "
                f"from the reference images, else name the best match in the ground truth; then ingest again"
            )
    return {query_id: next(iter(ids)) for query_id, ids in pairs.items()}


def matches_of_copies(
    edits: pa.Table, matches: Mapping[str, str], confirmed: Mapping[str, str], query_ids: ArrowColumn
) -> dict[str, str]:
    """{query_id: reference_id} of copies that `ndec edit` made from another query, or from a pool image.

    Such a copy shows the reference that its source shows, also through several copies. matches: of queries · confirmed:
    pool image → the reference that people say it is a copy of.
    """
    source = _sources(edits, query_ids)
    known: dict[_Image, str] = {("query", name): reference for name, reference in matches.items()}
    known |= {("pool", name): reference for name, reference in confirmed.items()}
    ends = {image[1]: _follow(source, image, known) for image in source if image not in known}
    return {query_id: known[end] for query_id, end in ends.items() if end in known}


def unclear_copies(edits: pa.Table, queries: pa.Table, undecided: Collection[str]) -> dict[str, str]:
    """{query_id: reason} of copies of which nobody knows whether they show a reference.

    They are copies, also through other queries, of pool images that may be copies of a reference, and of images that
    were replaced or removed. queries: an images table · undecided: the pool images.
    """
    source = _sources(edits, queries["image_id"])
    ends = {image[1]: _follow(source, image, ()) for image in source}
    found = {query_id: UNCLEAR for query_id, (role, name) in ends.items() if role == "pool" and name in undecided}
    return found | dict.fromkeys(_lost_copies(edits, queries, source), LOST)


def with_facts_of_sources(queries: pa.Table, edits: pa.Table, images: Mapping[str, pa.Table]) -> pa.Table:
    """The queries, copies with the group and licence that the image they were made from has today, also through copies.

    `ndec edit` records those of its time; the source may have been ingested again since. queries: an images table ·
    images: role → the images that copies are made from. Copies of an image that is gone keep what they have.
    """
    source = _sources(edits, queries["image_id"])
    ends = {image[1]: _follow(source, image, ()) for image in source}
    names, facts = [*LICENCE_COLUMNS, "group"], dict[_Image, dict[str, str | None]]()
    for role, table in {**images, "query": queries}.items():
        wanted = texts(name for of, name in ends.values() if of == role)
        rows = table.filter(pa.array(within(table["image_id"], wanted))).select(["image_id", *names]).to_pylist()
        facts |= {(role, row["image_id"]): row for row in rows}
    found = [facts.get(ends[name]) if name in ends else None for name in queries["image_id"].to_pylist()]
    for column in names if any(found) else ():
        values = zip(queries[column].to_pylist(), found, strict=True)
        values = texts(value if today is None else today[column] for value, today in values)
        place = queries.column_names.index(column)
        queries = queries.set_column(place, queries.schema.field(place), values)
    return queries


def _lost_copies(edits: pa.Table, queries: pa.Table, source: Mapping[_Image, _Image]) -> set[str]:
    """Queries that `ndec edit` made, from a picture that was replaced or removed since; and copies of such queries.

    An ingest forgets the records of copies whose source it replaces. The files stay.
    """
    made = edits.filter(pa.array(_copies(edits)))["image_id"]
    ours = pa.array(files_of_copies(queries), pa.string())
    lost = {("query", name) for name in ours.filter(pa.array(~within(ours, made))).to_pylist()}
    return {image[1] for image in [*lost, *source] if _follow(source, image, lost) in lost}


def _sources(edits: pa.Table, query_ids: ArrowColumn) -> dict[_Image, _Image]:
    """What each copy among the queries was made from."""
    made = edits.filter(pa.array(_copies(edits) & within(edits["image_id"], query_ids)))
    columns = (made[name].to_pylist() for name in ("image_id", "source_role", "source_id"))
    return {("query", image_id): (role, name) for image_id, role, name in zip(*columns, strict=True)}


def _follow(source: Mapping[_Image, _Image], image: _Image, known: Collection[_Image]) -> _Image:
    """The first image of the chain that is `known`, else its last one."""
    seen = set()
    while image in source and image not in known and image not in seen:
        seen.add(image)
        image = source[image]
    return image


def _copies(edits: pa.Table) -> np.ndarray:
    """(n,) bool: queries that are edited copies."""
    found: np.ndarray = mask(pc.equal(edits["role"], "query")) & mask(pc.equal(edits["kind"], "edited_copy"))
    return found
