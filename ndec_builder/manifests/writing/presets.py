"""Preset `ndec`: the parts of the NDEC benchmark, checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.errors import NdecError
from ndec_builder.manifests.arrow_ops import concatenated, mask, texts, within
from ndec_builder.manifests.writing.selection import Material, positives

DEV_SET_I = r"^Q[01]\d{4}$|^Q2[0-4]\d{3}$"  # Q00000–Q24999
DEV_SET_II = r"^Q2[5-9]\d{3}$|^Q[34]\d{4}$"  # Q25000–Q49999


@dataclass(frozen=True)
class Composition:
    """Size of each part of a benchmark. Own decisions may give other numbers of hard_negatives and pairs."""

    references: int
    edited_copies: int
    easy_negatives: int
    hard_negatives: int
    basic: int
    pairs: int


NDEC = Composition(1_000_000, 5_009, 19_991, 24_252, 900_000, 100_000)
WHERE = {
    "references": "the DISC21 references: `ndec ingest reference SOURCE`",
    "edited_copies": "the DISC21 queries Q25000–Q49999 and their truth: `ndec ingest query … --ground-truth CSV`",
    "easy_negatives": "the DISC21 queries Q25000–Q49999 without a reference: `ndec ingest query SOURCE`",
    "hard_negatives": "queries of the NDEC release, or your own: `ndec mine --split test`, `ndec annotate`",
    "basic": "the DISC21 training images: `ndec ingest basic SOURCE`",
    "pairs": "negative_pair of the release, or your own: `ndec mine --split train`, `ndec annotate`",
}
EXACT = ("references", "edited_copies", "easy_negatives")  # the other parts: see `_wrong`


def compose(material: Material, published: Composition, partial: bool) -> tuple[Material, dict[str, Any]]:
    """Mark the hard negatives among the ingested queries; returns the material and the facts for manifest.json.

    An ingested query is a hard negative when declared one, or when it is not a DISC21 query and has no reference.
    Raises NdecError for DISC21 queries of dev set I, for copies that are not DISC21 queries, and for missing parts (all
    in one message).
    """
    ids = material.queries["image_id"]
    declared = within(ids, material.hard_queries)
    second = mask(pc.match_substring_regex(ids, DEV_SET_II)) & ~declared
    matched = within(ids, texts(positives(material)))
    _refuse(
        ids, mask(pc.match_substring_regex(ids, DEV_SET_I)) & ~declared,
        "are DISC21 dev set I (Q00000–Q24999), which NDEC forbids: only Q25000–Q49999 may be queries",
        "ingest the queries again without them (list your own hard negatives with such names in a "
        "--hard-queries file)",
    )  # fmt: skip
    _refuse(
        ids, matched & ~second, "have a reference and are not DISC21 dev set II (Q25000–Q49999)",
        "NDEC has exactly 5,009 edited copies: remove yours, or export with --preset own",
    )  # fmt: skip
    hard = ids.filter(pa.array(~second & ~matched))
    composed = replace(material, hard_queries=concatenated([hard]).combine_chunks())
    found = Composition(
        references=len(material.references),
        edited_copies=int((matched & second).sum()),
        easy_negatives=int((second & ~matched).sum()),
        hard_negatives=len(hard) + len(material.kept.kept),
        basic=len(material.basic),
        pairs=len(material.train_pairs),
    )
    wrong = [part for part in vars(published) if _wrong(part, getattr(found, part), getattr(published, part), partial)]
    if wrong:
        lines = [f"{part}: {getattr(found, part):,} of {getattr(published, part):,} ({WHERE[part]})" for part in wrong]
        raise NdecError(
            f"this workspace lacks parts of NDEC (found, of how many published, from where): {'; '.join(lines)}. "
            "Ingest them, or add --partial to export a part of NDEC, which the manifest records"
        )
    differs = {
        part: {"found": count, "published": getattr(published, part)}
        for part, count in vars(found).items()
        if count != getattr(published, part)
    }
    return composed, {"name": "ndec", "partial": partial, "differs": differs}


def _wrong(part: str, found: int, published: int, partial: bool) -> bool:
    if partial:
        return part in ("references", "edited_copies") and not found
    if part in EXACT:
        return found != published
    # own decisions make other numbers of hard negatives and pairs; formers may come on top of the basic images
    return found < published if part == "basic" else not found


def _refuse(ids: pa.ChunkedArray, bad: np.ndarray, what: str, remedy: str) -> None:
    if bad.any():
        names = ids.filter(pa.array(bad))[:3].to_pylist()
        raise NdecError(f"{int(bad.sum()):,} queries {what}: {', '.join(names)} …; {remedy}")
