"""Exact and near-exact duplicates: the same bytes, or the same picture re-encoded or resized. They cost no labels.

Near-exact is judged on thumbnails of 32 × 32 pixels (bicubic, antialiased), values 0…255, and is meant to be narrow:
what a person could take for two pictures goes to a person. All must hold: the aspect ratios differ by at most
ASPECT_TOLERANCE; the mean absolute difference in grey is at most MEAN_DIFFERENCE, and in the worst of the 64 tiles of
4 × 4 pixels at most TILE_DIFFERENCE (frames of a still camera and graphics that differ in one spot fail here); the mean
of red, green and blue in the worst of the 16 tiles of 8 × 8 pixels differs by at most COLOUR_DIFFERENCE (recoloured
graphics fail here).

On 66 pictures, re-encoded at JPEG quality 60 and 30 and halved in size, the 95 % quantiles were 1.3, 4.7 and 7.5. Among
40 frames of a street camera some seconds apart none passed; among 1,419 clip-art graphics only renamed files and blank
pages did, among 916 flags and maps also two flags that differ by a faint coat of arms.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, check_files, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.storage import fingerprint, read_json, read_uri, write_json
from ndec_builder.core.workspace import Workspace

DUPLICATE_SCORE = (
    0.5  # pairs with a lower cosine are not decoded: no re-encoding scores that low, even with a coarse whitening
)
PAIRS_PER_SHARD = 2048  # pairs per shard: a few minutes of work
VERSION = 1  # of the definition of a duplicate
_SIDE = 32
ASPECT_TOLERANCE = 0.02  # a resize rounds to whole pixels: 2 % allows sides down to 50 px
MEAN_DIFFERENCE = 3.0
TILE_DIFFERENCE = 7.0
COLOUR_DIFFERENCE = 10.0
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601 luma

ImageRow = Mapping[str, Any]  # a row of an images table: uri, rotation and sha256 are read
UriResolver = Callable[[str], str]


@dataclass(frozen=True)
class Thumbnail:
    """pixels: (32, 32, 3) float32 RGB, 0…255; aspect: width / height of the full picture."""

    pixels: np.ndarray
    aspect: float


def thumbnail(row: ImageRow, resolve: UriResolver) -> Thumbnail | None:
    """Decode one image to its thumbnail; None when it cannot be read: it then has no near-exact duplicates."""
    from PIL import Image

    try:
        image = decode(read_uri(resolve(row["uri"])), row.get("rotation") or 0)
    except (OSError, DecodeError):
        return None
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return Thumbnail(np.asarray(small, dtype=np.float32), image.width / image.height)


def near_exact(first: Thumbnail, second: Thumbnail) -> bool:
    """Whether two thumbnails show the same picture by the module's thresholds."""
    if abs(first.aspect / second.aspect - 1) > ASPECT_TOLERANCE:
        return False
    difference = first.pixels - second.pixels
    grey = np.abs(difference @ _LUMA)
    tiles = grey.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    colour = np.abs(difference.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)))
    return bool(grey.mean() <= MEAN_DIFFERENCE and tiles.max() <= TILE_DIFFERENCE and colour.max() <= COLOUR_DIFFERENCE)


def find_duplicates(pairs: Sequence[tuple[ImageRow, ImageRow, float]], resolve: UriResolver) -> list[bool]:
    """Tell for each pair (image row, image row, score) whether both files show the same picture."""
    # an image that was never opened has no sha256 and equals no other image by bytes
    same_bytes = [first["sha256"] is not None and first["sha256"] == second["sha256"] for first, second, _ in pairs]
    near = [not same and score >= DUPLICATE_SCORE for same, (_, _, score) in zip(same_bytes, pairs, strict=True)]
    rows = {
        _key(row): row
        for wanted, (first, second, _) in zip(near, pairs, strict=True)
        if wanted
        for row in (first, second)
    }
    small = _thumbnails(rows.values(), resolve)
    result = []
    for same, wanted, (first, second, _) in zip(same_bytes, near, pairs, strict=True):
        left, right = small.get(_key(first)), small.get(_key(second))
        result.append(same or (wanted and left is not None and right is not None and near_exact(left, right)))
    return result


def check_pairs(
    workspace: Workspace, scratch: Path, pairs: Sequence[tuple[ImageRow, ImageRow, float]], workers: int = 1
) -> list[bool]:
    """`find_duplicates` for any number of pairs, in shards that stay under `scratch` until all are done.

    A killed run continues where it stopped. Raises GapsError when a shard keeps failing.
    """
    if len(pairs) <= PAIRS_PER_SHARD:
        return find_duplicates(pairs, workspace.resolve)
    lists = [[_plain(first), _plain(second), score] for first, second, score in pairs]
    plan = Plan(len(lists), PAIRS_PER_SHARD, fingerprint([VERSION, lists]))
    folder = open_plan(scratch, plan).absolute()
    write_json(folder / "pairs.json", lists)
    work = CheckShard(workspace.root.absolute(), folder)
    results = run_shards(folder, plan, work, Engine(workers=workers), what="comparing pictures", unit="pairs")
    marks: list[bool] = []
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
        marks += read_json(folder / f"{shard.name}.json")
    shutil.rmtree(scratch)
    return marks


@dataclass(frozen=True)
class CheckShard:
    """The work of one shard of pairs; picklable, for worker processes."""

    root: Path
    folder: Path

    def __call__(self, shard: Shard) -> Outcome:
        pairs = read_json(self.folder / "pairs.json")[shard.start : shard.stop]
        marks = find_duplicates([tuple(pair) for pair in pairs], Workspace(self.root).resolve)
        path = write_json(self.folder / f"{shard.name}.json", marks)
        return Outcome((path.name,), {"duplicates": sum(marks)})


def _plain(row: ImageRow) -> dict[str, Any]:
    return {name: row.get(name) for name in ("uri", "rotation", "sha256")}


def _thumbnails(rows: Iterable[ImageRow], resolve: UriResolver) -> dict[tuple[str, int], Thumbnail | None]:
    rows = list(rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the GIL; results are in the order of rows
        found = pool.map(lambda row: thumbnail(row, resolve), rows)
        return {_key(row): small for row, small in zip(rows, found, strict=True)}


def _key(row: ImageRow) -> tuple[str, int]:
    return row["uri"], row.get("rotation") or 0
