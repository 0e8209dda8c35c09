"""Keypoint codes of images for the search by local features, computed once per workspace (`cache/local/`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

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
from ndec_builder.core.console import number_of, say
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, check_files, finished, marker, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.locks import locked
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.storage import atomic_path, fingerprint
from ndec_builder.core.workspace import Workspace

LOCAL_VERSION = 1  # raised by hand when the codes of an image change
CODED_IMAGES = 256
_SIDE = 448  # px, longer side of a picture before its keypoints are found

# identity, where to read it, clockwise degrees of rotation, sha256 that its bytes must have (None: unknown)
LocatedImage = tuple[str, str, int, str | None]


@dataclass(frozen=True)
class CodesShard:
    """Keypoint codes of images; of queries also those of the mirrored picture. Picklable."""

    folder: Path  # absolute, of the plan
    images: Sequence[LocatedImage]
    most: int  # codes of an image
    mirrored: bool

    def __call__(self, shard: Shard) -> Outcome:
        with single_threaded():
            found = [self._codes(image) for image in stepping(self.images[shard.start : shard.stop])]
        unread = np.array([codes is None for codes in found])
        nothing = np.zeros((1 + self.mirrored, 0, CODE_BYTES), np.uint8)
        codes = [nothing if one is None else one for one in found]
        counts, name = np.array([one.shape[1] for one in codes]), f"{shard.name}.npz"
        with atomic_path(self.folder / name) as temporary:
            np.savez(temporary, counts=counts, codes=np.concatenate(codes, axis=1), unread=unread)
        return Outcome((name,), {"images": len(counts), "unread": int(unread.sum())})

    def _codes(self, image: LocatedImage) -> np.ndarray | None:
        """(1 or 2, n, 16) uint8, n = 0 for a picture that is plain or tiny; None for one that cannot be read."""
        if (picture := _picture(image)) is None:  # a reject of the descriptor, which is reported
            return None
        if max(picture.size) > _SIDE:
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
        descriptors = describe_picture(np.asarray(picture.convert("RGB"))).descriptors
        descriptors = descriptors[spread_rows(len(descriptors), self.most)]
        orders = (slice(None), MIRROR_ORDER) if self.mirrored else (slice(None),)
        return np.stack([keypoint_codes(descriptors[:, order]) for order in orders])


def _picture(image: LocatedImage) -> Image.Image | None:
    _, uri, rotation, sha256 = image
    try:
        return decode(read_image(uri, sha256), rotation)
    except (OSError, DecodeError):
        return None


def index_of(workspace: Workspace, references: Sequence[LocatedImage], engine: Engine) -> LocalIndex:
    """The index of these references, REFERENCE_CODES keypoints of each."""
    parts = list(_codes(workspace, references, REFERENCE_CODES, False, engine))
    return LocalIndex(np.concatenate([codes[0] for codes, _ in parts]), np.concatenate([n for _, n in parts]))


def query_variants(
    workspace: Workspace, queries: Sequence[LocatedImage], engine: Engine
) -> Iterator[list[list[np.ndarray]]]:
    """Batches of queries in order: of each query the codes (n, 16) as it is and mirrored."""
    for codes, counts in _codes(workspace, queries, QUERY_CODES, True, engine):
        yield [list(part) for part in np.split(codes, np.cumsum(counts)[:-1], axis=1)]


def _codes(
    workspace: Workspace, images: Sequence[LocatedImage], most: int, mirrored: bool, engine: Engine
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shard by shard (1 or 2, sum of counts, 16) uint8, and counts (images,).

    Another command that needs the same codes waits until these are read.
    """
    named = [[name, rotation] for name, _, rotation, _ in images]
    plan = Plan(len(images), CODED_IMAGES, fingerprint([LOCAL_VERSION, _SIDE, most, mirrored, named]))
    output = workspace.root / "cache" / "local" / plan.fingerprint[:16]
    with locked(output, wait=True):
        yield from _coded(output, plan, images, most, mirrored, engine)


def _coded(
    output: Path, plan: Plan, images: Sequence[LocatedImage], most: int, mirrored: bool, engine: Engine
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    folder = open_plan(output, plan).absolute()
    work = CodesShard(folder, images, most, mirrored)
    for shard in plan.shards:
        if (
            (done := finished(folder, plan, shard))
            and done.counts.get("unread")
            and _can_read_more(folder, shard, images)
        ):
            marker(folder, shard).unlink()
    results = run_shards(folder, plan, work, engine, what="finding local features", unit="images")
    if unread := sum(done.counts.get("unread", 0) for done in results):
        say(f"{number_of(unread, 'image')} without local features: the file is missing, broken or changed")
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
        with np.load(folder / f"{shard.name}.npz", allow_pickle=False) as file:
            yield file["codes"], file["counts"]


def _can_read_more(folder: Path, shard: Shard, images: Sequence[LocatedImage]) -> bool:
    """Whether an image of a finished shard that could not be read can be read now."""
    with np.load(folder / f"{shard.name}.npz", allow_pickle=False) as file:
        unread = np.flatnonzero(file["unread"]) + shard.start
    return any(_picture(images[place]) is not None for place in unread)
