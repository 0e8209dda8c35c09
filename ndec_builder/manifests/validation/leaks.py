"""Leaks that hashes miss: training images with the same pixels as a test image, or nearly the same descriptor."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import progress
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_uri
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.read import Manifest
from ndec_builder.manifests.validation.findings import Finding, Tables, flag_rows
from ndec_builder.manifests.validation.table_checks import TEST_IMAGES, TRAIN_IMAGES

_COLUMNS = ["uri", "sha256", "rotation"]
_BATCH = 256  # images in memory at once
WHITENING_IMAGES, WHITENING_DIM, SHRINKAGE = 2000, 256, 0.1  # as `ndec embed`
FEWEST_TO_WHITEN = 50


def check_pixels(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """Training images whose decoded pixels equal those of a query or reference: same picture, different file."""
    images = _images(tables)
    digests: list[bytes | None] = []
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("decoding images", total=images.num_rows)
        for batch in images.to_batches(_BATCH):
            rows = batch.to_pylist()
            digests += pool.map(lambda row: _pixels(manifest, row), rows)
            bar.advance(task, len(rows))
    names, tables_of = images["image_id"].to_pylist(), images["table"].to_pylist()
    test = {digest for digest, table in zip(digests, tables_of, strict=True) if table in TEST_IMAGES and digest}
    same = [
        f"{table}/{name}"
        for name, table, digest in zip(names, tables_of, digests, strict=True)
        if table in TRAIN_IMAGES and digest in test
    ]
    yield from flag_rows("M310", same)
    for code, role in (("M316", "references"), ("M317", "queries")):
        yield from flag_rows(code, _again(digests, tables_of, names, role))
    yield from flag_rows("M312", [f"{t}/{n}" for n, t, d in zip(names, tables_of, digests, strict=True) if d is None])


def _again(digests: list[bytes | None], tables: list[str], names: list[str], role: str) -> list[str]:
    """Ids of a table whose pixels an earlier image of it has."""
    seen: set[bytes] = set()
    found = []
    for digest, table, name in zip(digests, tables, names, strict=True):
        if table == role and digest is not None:
            found += [name] if digest in seen else []
            seen.add(digest)
    return found


def check_near(manifest: Manifest, tables: Tables, model: str, threshold: float) -> Iterator[Finding]:
    """Training images whose cosine with a query or reference is at least the threshold, whitened on all images."""
    from ndec_builder.candidates.search.exact import best_scores
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.extract import extract
    from ndec_builder.embeddings.whitening import Whitening

    images = _images(tables)
    keys = pa.array(
        [f"{t}/{n}" for t, n in zip(images["table"].to_pylist(), images["image_id"].to_pylist(), strict=True)]
    )
    images = images.set_column(images.column_names.index("image_id"), "image_id", keys)
    with progress() as bar:
        task = bar.add_task(f"embedding with {model}", total=images.num_rows)
        backbone = load_backbone(model, best_device("auto"))
        extracted = extract(backbone, images, manifest.resolve, progress=functools.partial(bar.advance, task))
    ids = np.array(extracted.ids)
    train = np.array([name.split("/")[0] in TRAIN_IMAGES for name in extracted.ids], dtype=bool)
    features = extracted.features
    if len(features) >= FEWEST_TO_WHITEN:
        spread = np.linspace(0, len(features) - 1, min(WHITENING_IMAGES, len(features))).astype(np.int64)
        features = Whitening.fit(features[spread], WHITENING_DIM, SHRINKAGE).apply(features)
    vectors = (features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)).astype(np.float16)
    if train.any() and not train.all():
        best = best_scores(vectors[train], vectors[~train], 1)[:, 0]
        yield from flag_rows(
            "M311", ids[train][best >= threshold].tolist(), f"cosine of {model} at least {threshold:g}"
        )
    yield from flag_rows("M312", [row["image_id"] for row in extracted.rejects])


def _images(tables: Tables) -> pa.Table:
    """All images of the four tables: image_id, uri, sha256, rotation and table."""
    parts = []
    for name in (*TEST_IMAGES, *TRAIN_IMAGES):
        part = tables[name].select([IMAGE_TABLES[name], *_COLUMNS]).rename_columns(["image_id", *_COLUMNS])
        parts.append(part.append_column("table", pa.array([name] * part.num_rows, pa.string())))
    return pa.concat_tables(parts)


def _pixels(manifest: Manifest, row: dict[str, Any]) -> bytes | None:
    try:
        image = decode(read_uri(manifest.resolve(row["uri"])), row["rotation"] or 0)
    except (OSError, DecodeError, NdecError, TypeError, AttributeError):  # a missing uri
        return None
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
