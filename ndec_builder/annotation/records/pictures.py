"""Which pictures a label is about: their SHA-256 when the label was pulled.

An image id can get other bytes by a later ingest. Labels of such a pair are about pictures that no longer exist under
these ids, so they do not count; the same bytes under a new id remain labelled.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace

_FILE = "labelled_pictures.json"  # pair_id → [SHA-256 of the pool picture, of the other one]
_Shas = list[str | None]


def record_pictures(workspace: Workspace, split: str, tasks: pa.Table, pair_ids: Iterable[str]) -> None:
    """Remember the present pictures of pairs with new labels. Call it before the labels are written.

    tasks: the tasks of the split (schema TASKS).
    """
    found = _present(workspace, split, tasks, set(pair_ids))
    if found:
        write_json(workspace.annotation(split) / _FILE, _recorded(workspace, split) | found)


def replaced_pairs(workspace: Workspace, split: str, tasks: pa.Table) -> set[str]:
    """Labelled pairs with a picture that was replaced since, under the same id. Unknown hashes equal everything."""
    recorded = _recorded(workspace, split)
    present = _present(workspace, split, tasks, set(recorded))
    return {
        pair
        for pair, now in present.items()
        if any(a is not None and b is not None and a != b for a, b in zip(recorded[pair], now, strict=True))
    }


def labelled_pool_pictures(workspace: Workspace) -> set[str]:
    """SHA-256 of all pool pictures that people labelled, whatever their ids are now."""
    recorded = (shas for split in SPLITS for shas in _recorded(workspace, split).values())
    return {shas[0] for shas in recorded if shas[0] is not None}


def _recorded(workspace: Workspace, split: str) -> dict[str, _Shas]:
    path = workspace.annotation(split) / _FILE
    found: dict[str, _Shas] = read_json(path) if path.is_file() else {}
    return found


def _present(workspace: Workspace, split: str, tasks: pa.Table, pair_ids: set[str]) -> dict[str, _Shas]:
    """The hashes of these pairs' pictures now; null for an image that the workspace no longer has."""
    if not pair_ids:
        return {}
    rows = {
        row["pair_id"]: (row["query_id"], row["reference_id"])
        for row in tasks.select(["pair_id", "query_id", "reference_id"]).to_pylist()
        if row["pair_id"] in pair_ids
    }
    hashes = []
    for role, side in (("pool", 0), (GALLERY[split], 1)):
        known = workspace.images(role).is_file()
        found = workspace.image_rows(role, {ids[side] for ids in rows.values()}, ["sha256"]) if known else {}
        hashes.append({name: row["sha256"] for name, row in found.items()})
    return {pair: [hashes[0].get(query), hashes[1].get(other)] for pair, (query, other) in rows.items()}
