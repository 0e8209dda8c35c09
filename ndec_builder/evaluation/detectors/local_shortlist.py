"""A second shortlist for the fused scorer: references that share local features with a query.

Descriptors of complete pictures lose copies that are a small part of the query, or on a busy background. The codes of
an image's keypoints are computed once per workspace (`cache/local/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndec_builder.candidates.geometry.fitting import single_threaded
from ndec_builder.candidates.geometry.keypoints import MIRROR_ORDER, describe_picture
from ndec_builder.candidates.search.local_index import (
    CODE_BYTES,
    QUERY_CODES,
    REFERENCE_CODES,
    LocalIndex,
    keypoint_codes,
    spread_rows,
)
from ndec_builder.core.console import track
from ndec_builder.core.decode import DecodeError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, check_files, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.storage import atomic_path, fingerprint
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.pair_geometry import Image, images_of
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.training.fused.measure import PICTURE_SIDE
from ndec_builder.training.views import load_picture

LOCAL_VERSION = 1  # raised by hand when the codes of an image change
_SHARD_IMAGES = 256
_BATCH = 64  # queries searched together


@dataclass(frozen=True)
class CodesShard:
    """Keypoint codes of images; of queries also those of the mirrored picture. Picklable."""

    folder: Path  # absolute, of the plan
    images: Sequence[Image]
    most: int  # codes of an image
    mirrored: bool

    def __call__(self, shard: Shard) -> Outcome:
        with single_threaded():
            found = [self._codes(*image[1:]) for image in stepping(self.images[shard.start : shard.stop])]
        counts = np.array([codes.shape[1] for codes in found])
        name = f"{shard.name}.npz"
        with atomic_path(self.folder / name) as temporary:
            np.savez(temporary, counts=counts, codes=np.concatenate(found, axis=1))
        return Outcome((name,), {"images": len(counts)})

    def _codes(self, uri: str, rotation: int) -> np.ndarray:
        """(1 or 2, n, 16) uint8; no codes for a picture that is plain, tiny or cannot be read."""
        try:
            picture = load_picture(uri, PICTURE_SIDE, rotation).convert("RGB")
        except (OSError, DecodeError):  # a reject of the descriptor, which is reported
            return np.zeros((1 + self.mirrored, 0, CODE_BYTES), np.uint8)
        descriptors = describe_picture(np.asarray(picture)).descriptors
        descriptors = descriptors[spread_rows(len(descriptors), self.most)]
        orders = (slice(None), MIRROR_ORDER) if self.mirrored else (slice(None),)
        return np.stack([keypoint_codes(descriptors[:, order]) for order in orders])


def local_pairs(workspace: Workspace, dataset: Dataset, top: int, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Query and reference of the `top` references of each query by local features, sorted by query and rank.

    Queries without keypoints have no pair; references left out as twins are not searched.
    """
    kept = np.arange(len(dataset.references)) if dataset.dropped is None else np.flatnonzero(~dataset.dropped)
    references = images_of(dataset, dataset.references)
    codes, counts = _codes(workspace, [references[row] for row in kept], REFERENCE_CODES, False, engine)
    index = LocalIndex(codes[0], counts)
    codes, counts = _codes(workspace, images_of(dataset, dataset.queries), QUERY_CODES, True, engine)
    variants = [list(part) for part in np.split(codes, np.cumsum(counts)[:-1], axis=1)]
    batches = [variants[start : start + _BATCH] for start in range(0, len(variants), _BATCH)]
    found = [
        rows for batch in track(batches, len(batches), "searching local features") for rows in index.best(batch, top)
    ]
    query = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
    return query, kept[np.concatenate(found)]


def with_local_pairs(
    found: Predictions, query: np.ndarray, reference: np.ndarray, references: int
) -> tuple[Predictions, np.ndarray]:
    """The list with these pairs in it, and their positions, ascending.

    A pair that the search did not list is added at its end; its score is that of the last pair.
    """
    pairs, wanted = found.pairs(references), query * references + reference
    new = ~np.isin(wanted, pairs)
    longer = Predictions(
        np.concatenate([found.query, query[new]]), np.concatenate([found.reference, reference[new]]),
        np.concatenate([found.scores, np.full(int(new.sum()), found.scores.min(initial=0.0))]), found.protocol,
    )  # fmt: skip
    return longer, np.flatnonzero(np.isin(longer.pairs(references), wanted))


def _codes(
    workspace: Workspace, images: Sequence[Image], most: int, mirrored: bool, engine: Engine
) -> tuple[np.ndarray, np.ndarray]:
    """(1 or 2, sum of counts, 16) uint8, and counts (images,)."""
    named = [[name, rotation] for name, _, rotation in images]
    plan = Plan(len(images), _SHARD_IMAGES, fingerprint([LOCAL_VERSION, PICTURE_SIDE, most, mirrored, named]))
    folder = open_plan(workspace.root / "cache" / "local" / plan.fingerprint[:16], plan).absolute()
    work = CodesShard(folder, images, most, mirrored)
    results = run_shards(folder, plan, work, engine, what="finding local features", unit="images")
    parts = []
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
        with np.load(folder / f"{shard.name}.npz", allow_pickle=False) as file:
            parts.append((file["codes"], file["counts"]))
    return np.concatenate([codes for codes, _ in parts], axis=1), np.concatenate([counts for _, counts in parts])
