"""Pairs of images that the workspace still has: a later ingest may remove one, and its labels stay."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace


def of_present_images(workspace: Workspace, split: str, pairs: pa.Table) -> tuple[pa.Table, int]:
    """The pairs (query_id, reference_id, …) of images that the workspace has, and the number of the others.

    A role without an images table says nothing: its images count as present.
    """
    kept = np.ones(pairs.num_rows, dtype=bool)
    for column, role in (("query_id", "pool"), ("reference_id", GALLERY[split])):
        if pairs.num_rows and (path := workspace.images(role)).is_file():
            known = read_table(path, ["image_id"])["image_id"].combine_chunks()
            kept &= pc.is_in(pairs[column], value_set=known).to_numpy()
    return pairs.filter(pa.array(kept)), int((~kept).sum())
