"""Open images that were only listed: a dataset states the sha256 of each, so the selected ones are opened first."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import number_of, say
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.arrow_ops import concatenated, first_of_each, row_numbers, take, within
from ndec_builder.manifests.writing.selection import DatasetSelection, Material, select_tables
from ndec_builder.sources.late_inspection import open_images

_TABLES = {
    # table: roles that its images may be of
    "references": ("reference",),
    "train_basic": ("basic",),
    "train_pair_images": ("pool",),
    "queries": ("query", "pool"),
}
_FIELDS = {"reference": "references", "basic": "basic", "pool": "pool", "query": "queries"}  # of Material


def select_opened(
    workspace: Workspace, material: Material, distractors: int, seed: int
) -> tuple[Material, DatasetSelection]:
    """Select the tables of a dataset, with the sha256 of every image. Returns the updated material too.

    The selected images are opened and the selection is repeated until every hash is known; distractors are drawn last.
    An unreadable image is left out and counted. So is a distractor with the bytes of another image, without a
    replacement. The result depends only on the images tables and the images. Raises as `select_tables`.

    """
    if not any(getattr(material, field)["sha256"].null_count for field in _FIELDS.values()):
        return material, select_tables(material, distractors, seed)
    drops = Counter[str]()
    while unknown := _unknown(select_tables(material, 0, seed)):
        for role, ids in unknown.items():
            images: pa.Table = getattr(material, _FIELDS[role])
            wanted = within(images["image_id"], ids)
            opened = _open(workspace, role, images.filter(pa.array(wanted)), drops)
            both = pa.concat_tables([images.filter(pa.array(~wanted)), opened]).sort_by("image_id").combine_chunks()
            material = replace(material, **{_FIELDS[role]: both})
    selection = _open_distractors(workspace, material, select_tables(material, distractors, seed), drops)
    if drops:
        selection = replace(selection, dropped=selection.dropped | {"listed_images": dict(sorted(drops.items()))})
    return material, selection


def _unknown(selection: DatasetSelection) -> dict[str, pa.ChunkedArray]:
    """role → ids of selected images without a sha256. A query may have role query or pool: both are searched."""
    found: dict[str, list[pa.ChunkedArray]] = {}
    for name, roles in _TABLES.items():
        table = selection.tables[name]
        ids = table.column(0).filter(pc.is_null(table["sha256"]))
        for role in roles if len(ids) else ():
            found.setdefault(role, []).append(ids)
    return {role: concatenated(columns) for role, columns in found.items()}


def _open(workspace: Workspace, role: str, images: pa.Table, drops: Counter[str]) -> pa.Table:
    opened, rejects = open_images(workspace, role, images)
    if rejects.num_rows:
        drops[f"unreadable_{role}"] += rejects.num_rows
        first = rejects.slice(0, 1).to_pylist()[0]
        say(
            f"{number_of(rejects.num_rows, f'{role} image')} cannot be read, {first['image_id']!r} first: "
            f"{first['reason']}"
        )
    return opened


def _open_distractors(
    workspace: Workspace, material: Material, selection: DatasetSelection, drops: Counter[str]
) -> DatasetSelection:
    """Add the hashes of the distractors; unreadable ones and those that repeat an image are removed."""
    tables, queries = dict(selection.tables), selection.tables["queries"]
    ids = queries["query_id"].filter(pc.is_null(queries["sha256"]))
    if not len(ids):
        return selection
    opened = _open(workspace, "pool", material.pool.filter(pa.array(within(material.pool["image_id"], ids))), drops)
    others = concatenated(tables[name]["sha256"] for name in _TABLES)
    again = within(opened["sha256"], others) | ~first_of_each(opened["sha256"])
    if count := int(again.sum()):
        drops["distractor_of_same_bytes_as_another_image"] += count
    opened = opened.filter(pa.array(~again))
    known = take(opened["sha256"], row_numbers(queries["query_id"], opened["image_id"]))
    index = queries.schema.get_field_index("sha256")
    queries = queries.set_column(index, queries.schema.field(index), pc.coalesce(queries["sha256"], known))
    kept = pc.is_valid(queries["sha256"])
    tables["queries"] = queries.filter(kept)
    tables["ground_truth"] = tables["ground_truth"].filter(kept)  # both are ascending by query_id
    gone = len(queries) - len(tables["queries"])
    return replace(selection, tables=tables, distractors_drawn=selection.distractors_drawn - gone)
