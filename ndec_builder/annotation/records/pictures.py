"""Which pictures a label is about: those that the two ids had when it was given.

An image id can get other bytes by a later ingest. Labels given before are about pictures that no longer exist under
these ids, so they do not count; the same bytes under a new id remain labelled. The time of a label is Label Studio's,
and the time of an ingest that of the workspace's machine: their clocks must agree.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.replaced import PicturesOverTime


def about_replaced(workspace: Workspace, split: str, tasks: pa.Table, labels: pa.Table) -> np.ndarray:
    """(labels,) bool: whether a label is about a picture that was replaced since. Unknown hashes equal everything.

    Images that the workspace no longer has count as not replaced; callers leave their labels out.
    tasks: the tasks of the split (schema TASKS) · labels: rows of labels.parquet (schema LABEL_ROWS).
    """
    mask = np.zeros(labels.num_rows, dtype=bool)
    for role, side in (("pool", "query_id"), (GALLERY[split], "reference_id")):
        pictures = PicturesOverTime(workspace, role)
        rows, images = _labels_of(pictures.replaced, tasks, labels, side)
        present = pictures.present(images)
        for row, image, moment in zip(rows, images, labels["annotated_at"].take(rows).to_pylist(), strict=True):
            then, now = pictures.earlier(image, moment), present.get(image)
            mask[row] |= then is not None and now not in (None, then)
    return mask


def replaced_pool_pictures(workspace: Workspace, tasks: pa.Table, labels: pa.Table) -> set[str]:
    """SHA-256 of the pool pictures that people labelled under an id that has another picture or no image now."""
    pictures = PicturesOverTime(workspace, "pool")
    rows, images = _labels_of(pictures.replaced, tasks, labels, "query_id")
    moments = labels["annotated_at"].take(rows).to_pylist()
    shas = (pictures.earlier(image, moment) for image, moment in zip(images, moments, strict=True))
    return {sha for sha in shas if sha is not None}


def _labels_of(ids: set[str], tasks: pa.Table, labels: pa.Table, side: str) -> tuple[np.ndarray, list[str]]:
    """The labels whose query (`side` query_id) or reference (reference_id) is one of these images: rows, image ids."""
    touched = tasks.filter(pc.is_in(tasks[side], pa.array(sorted(ids), pa.string())))
    image_of = dict(zip(touched["pair_id"].to_pylist(), touched[side].to_pylist(), strict=True))
    rows = np.flatnonzero(pc.is_in(labels["pair_id"], pa.array(sorted(image_of), pa.string())).to_numpy())
    return rows, [image_of[pair] for pair in labels["pair_id"].take(rows).to_pylist()]
