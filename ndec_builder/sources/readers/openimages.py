"""Kind `openimages` with its images: {train,validation,test}/<id>.jpg, or tars of them, joined to the metadata csv."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import IMAGES, LICENCE_COLUMNS
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.detect_kind import guess_kind
from ndec_builder.sources.listing import SourceContents, name_all
from ndec_builder.sources.readers import folder, tar
from ndec_builder.sources.readers.openimages_csv import CSV_COLUMNS, convert_metadata, images_base, read_batches
from ndec_builder.sources.settings import IngestConfig


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images with their metadata from the csv. Images without a row are named.

    A csv row without an image is not a gap: most people have a part of OpenImages. Raises UsageError without a csv,
    NdecError for an invalid one (see `read_batches`).
    """
    source, csv_path = config.source, config.metadata
    if str(source).lower().endswith(".csv"):
        csv_path, base = Path(source), images_base(config, workspace)
        source = base if "://" in base else workspace.resolve(base)
    if csv_path is None:
        raise UsageError(
            f"OpenImages needs its metadata csv, which has licence, author and rotation of each image: give --metadata "
            f"CSV, or the csv itself as source (or --kind folder to read {source} without it)"
        )
    kind = guess_kind(source)
    finder = tar.find if kind == "tar" else folder.find
    found = finder(replace(config, source=source, kind="tar" if kind == "tar" else "folder", id="stem"), workspace)
    listing = found.listings[config.role]
    columns = (*CSV_COLUMNS, "OriginalMD5") if config.verify_md5 else CSV_COLUMNS
    rows = _select_rows(csv_path, listing.images["image_id"], columns)
    places = pc.index_in(listing.images["image_id"], value_set=rows["ImageID"].combine_chunks())
    gaps = list(found.gaps)
    if places.null_count:
        lost = listing.images.filter(pc.is_null(places))["image_id"].to_pylist()
        gaps.append(
            name_all(
                lost,
                f"image has no row in {csv_path.name} and therefore no licence, author or rotation",
                f"images have no row in {csv_path.name} and therefore no licence, author or rotation",
            )
        )
    images = _joined(listing.images, convert_metadata(rows, config), places)
    md5 = _digests(rows) if config.verify_md5 else {}
    inputs = {csv_path.name: sha256_file(csv_path)}
    return SourceContents(
        {config.role: replace(listing, images=images)}, tuple(gaps), md5=md5, inputs=inputs, notes=found.notes
    )


def _select_rows(path: Path, ids: pa.ChunkedArray, columns: tuple[str, ...]) -> pa.Table:
    """The csv rows of these ids. Raises NdecError naming ids that appear twice."""
    wanted = ids.combine_chunks()
    tables = [table.filter(pc.is_in(table["ImageID"], value_set=wanted)) for table in read_batches(path, columns)]
    rows = pa.concat_tables(tables).combine_chunks()
    counts = pc.value_counts(rows["ImageID"].combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise NdecError(f"{path}: {name_all(twice, 'id appears twice', 'ids appear twice')}; keep one row per image")
    return rows


def _joined(images: pa.Table, described: pa.Table, places: pa.ChunkedArray) -> pa.Table:
    """The images table with rotation, licence and group from the metadata where it has a row."""
    taken = described.take(places)
    for name in ("rotation", *LICENCE_COLUMNS, "group"):
        index = images.schema.get_field_index(name)
        column = pc.coalesce(taken[name], images[name])
        images = images.set_column(index, IMAGES.field(name), column.cast(IMAGES.field(name).type))
    return images.cast(IMAGES)


def _digests(rows: pa.Table) -> dict[str, str]:
    """image_id → hex MD5 from the base64 of the csv. Raises NdecError for a value that is not an MD5."""
    digests: dict[str, str] = {}
    odd = []
    for image_id, text in zip(rows["ImageID"].to_pylist(), rows["OriginalMD5"].to_pylist(), strict=True):
        try:
            digest = base64.b64decode(text or "", validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 16:
            odd.append(f"{image_id} ({text!r})")
        digests[image_id] = digest.hex()
    if odd:
        what = "an OriginalMD5 that is not base64 of 16 bytes"
        raise NdecError(f"{name_all(odd, f'image has {what}', f'images have {what}')}; fix the csv")
    return digests
