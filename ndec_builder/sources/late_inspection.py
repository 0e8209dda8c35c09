"""Hash, size and format of images that were listed without opening them. Read on first need, then kept.

They are stored in images/<role>-opened.parquet. The images table does not change, so that embeddings and candidates
made from it stay valid when some of its images are opened later.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import track
from ndec_builder.core.schemas import IMAGES, REJECTS, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.inspect_images import FACTS, read_all, read_facts

_COLUMNS = ["image_id", "uri", *FACTS]
_SCHEMA = pa.schema([IMAGES.field(name) for name in _COLUMNS])


def open_images(workspace: Workspace, role: str, images: pa.Table, workers: int = 0) -> tuple[pa.Table, pa.Table]:
    """Return (the rows with sha256, width, height and format; image_id, uri and reason of those that cannot be read).

    `images`: some or all rows of the role's table. Rows with a sha256 are returned unchanged. Each image is read
    once: the result is kept until the role is ingested again.
    """
    unknown = images.filter(pc.is_null(images["sha256"]))
    if not unknown.num_rows:
        return images, table_of(REJECTS, [])
    known = read_opened(workspace, role)
    new, bad = [], []
    fresh = unknown.filter(pc.is_null(_places(unknown, known))).select(["image_id", "uri"]).to_pylist()
    read = read_all(fresh, lambda row: read_facts(workspace.resolve(row["uri"]), "header", None), workers)
    for row, facts in track(read, len(fresh), f"opening {role} images"):
        if isinstance(facts, str):
            bad.append({**row, "reason": facts})
        else:
            new.append({**row, **facts})
    if new:
        known = pa.concat_tables([known, pa.Table.from_pylist(new, schema=_SCHEMA)])
        known = known.take(pc.sort_indices(known, [("image_id", "ascending"), ("uri", "ascending")]))
        write_table(opened_path(workspace, role), known)
    places = _places(images, known)
    for name in FACTS:
        index = images.schema.get_field_index(name)
        images = images.set_column(index, IMAGES.field(name), pc.coalesce(images[name], known[name].take(places)))
    return images.filter(pc.is_valid(images["sha256"])), table_of(REJECTS, bad)


def opened_path(workspace: Workspace, role: str) -> Path:
    return workspace.images(role).with_name(f"{role}-opened.parquet")


def read_opened(workspace: Workspace, role: str) -> pa.Table:
    """The stored results: image_id, uri, sha256, width, height, format."""
    path = opened_path(workspace, role)
    return read_table(path).cast(_SCHEMA) if path.is_file() else _SCHEMA.empty_table()


def _places(images: pa.Table, known: pa.Table) -> pa.Array:
    """For each image its row in `known`, or null. An image whose uri changed has no row."""
    keys = [pc.binary_join_element_wise(t["image_id"], t["uri"], "\x1f").combine_chunks() for t in (images, known)]
    return pc.index_in(keys[0], value_set=keys[1])
