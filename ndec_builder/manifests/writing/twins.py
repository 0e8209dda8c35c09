"""Images of one role that show the same picture: a dataset gets one of them, with the pairs of all."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.manifests.arrow_ops import first_of_each, texts

TwinMap = Mapping[str, str]  # image_id → the id that represents it; images that are their own are left out


def twins_of(images: pa.Table, near_exact: TwinMap) -> dict[str, str]:
    """Images that show the picture of another image of the table, each with the id that represents its group.

    `near_exact`: what mining found (`candidates.twins`); images with the same bytes are added, the first id represents
    them. An image that was never opened has unknown bytes.
    """
    ids = set(images["image_id"].to_pylist())
    found = {image_id: other for image_id, other in near_exact.items() if image_id in ids and other in ids}
    for image_id, other in _same_bytes(images).items():
        representative = found.get(other, other)
        if representative != image_id:
            found.setdefault(image_id, representative)
    return {image_id: found.get(other, other) for image_id, other in found.items()}


def _same_bytes(images: pa.Table) -> dict[str, str]:
    rows = images.filter(pc.is_valid(images["sha256"])).sort_by("image_id")
    rows = rows.select(["image_id", "sha256"])
    again = rows.filter(pa.array(~first_of_each(rows["sha256"])))
    if not again.num_rows:
        return {}
    first = rows.filter(pa.array(first_of_each(rows["sha256"])))
    place = pc.index_in(again["sha256"], value_set=first["sha256"].combine_chunks())
    return dict(zip(again["image_id"].to_pylist(), first["image_id"].take(place).to_pylist(), strict=True))


def without_twins(images: pa.Table, twins: TwinMap) -> pa.Table:
    """The images table with the representatives only."""
    return images.filter(pc.invert(pc.is_in(images["image_id"], value_set=texts(twins)))) if twins else images


def represented(table: pa.Table, columns: Mapping[str, TwinMap]) -> pa.Table:
    """The table with each id of these columns replaced by its representative."""
    for name, twins in columns.items():
        if twins:
            ids = [twins.get(value, value) for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), table.schema.field(name), texts(ids))
    return table


def represented_sources(edits: pa.Table, twins: Mapping[str, TwinMap]) -> pa.Table:
    """The edits table with the representative of each source, by the role of the source. twins: role → twins."""
    columns = (edits[name].to_pylist() for name in ("source_role", "source_id"))
    ids = [twins.get(role, {}).get(name, name) for role, name in zip(*columns, strict=True)]
    return edits.set_column(edits.column_names.index("source_id"), edits.schema.field("source_id"), texts(ids))


def twin_drops(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Table → reason → images left out. counts: role → images that show the picture of another one."""
    names = {"reference": "references", "pool": "pool", "basic": "basic_images"}
    return {names[role]: {"twin_of_another_image": count} for role, count in counts.items()}
