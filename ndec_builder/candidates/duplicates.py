"""Exact and near-exact duplicates: the same bytes, or the same picture re-encoded or resized. They cost no labels.

The near-exact test is meant to be narrow: pictures that a person could tell apart must go to a person. It has two
steps, and all conditions must hold.

Thumbnails of 32 × 32 pixels (bicubic, antialiased), values 0…255: the aspect ratios differ by at most ASPECT_TOLERANCE;
the mean absolute difference in grey is at most MEAN_DIFFERENCE, and in the worst of the 64 tiles of 4 × 4 pixels at
most TILE_DIFFERENCE (frames of a still camera fail here); the mean of red, green and blue in the worst of the 16 tiles
of 8 × 8 pixels differs by at most COLOUR_DIFFERENCE (recoloured graphics fail here).

Full detail: the thumbnails of two invoices or two logos are nearly equal, because they are nearly empty. So both
pictures are scaled to the size of the smaller one (at most DETAIL_SIDE), and compared in grey, and at half the size in
red, green and blue. Contrast is the standard deviation in a window of WINDOW pixels. In each window with contrast, the
standard deviation of the difference is at most DETAIL_DIFFERENCE of it. In windows of half the side, it is at most
LARGEST_CHANGE of the highest contrast of the picture. Pictures without any contrast are duplicates only if they are
equal. Animations never are: people see all frames, this test only the first.

On 50 photos, re-encoded as JPEG of quality 60 and 30 (also at half size), WebP and GIF, and resized, 98–100 % pass (GIF
82 %). Their largest change was .10 (GIF .15 for 95 %); one changed digit on an invoice gave .49 or more. The thumbnails
alone, on 66 pictures: 95 % quantiles of 1.3, 4.7 and 7.5; 40 frames of a street camera some seconds apart all failed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ndec_builder.core.console import number_of, say, waiting
from ndec_builder.core.decode import DecodeError, decode, has_frames
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, check_files, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.fingerprints import DECODE_VERSION
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.storage import fingerprint, read_json, write_json
from ndec_builder.core.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

DUPLICATE_SCORE = (
    0.5  # pairs with a lower cosine are not decoded: no re-encoding scores that low, even with a coarse whitening
)
PAIRS_PER_SHARD = 2048  # pairs per shard: a few minutes of work
VERSION = 2  # of the definition of a duplicate
_COMPARING = 0.2  # share of the time of a shard after its thumbnails, for its progress
_SIDE = 32
ASPECT_TOLERANCE = 0.02  # a resize rounds to whole pixels: 2 % allows sides down to 50 px
MEAN_DIFFERENCE = 3.0
TILE_DIFFERENCE = 7.0
COLOUR_DIFFERENCE = 10.0
DETAIL_SIDE = 1024  # px: larger pictures are scaled down to it
WINDOW = 16  # px
DETAIL_DIFFERENCE = 2 / 3
LARGEST_CHANGE = 0.25
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601 luma

ImageRow = Mapping[str, Any]  # a row of an images table: uri, rotation and sha256 are read
UriResolver = Callable[[str], str]


@dataclass(frozen=True)
class Thumbnail:
    """pixels: (32, 32, 3) float32 RGB, 0…255; aspect: width / height of the full picture."""

    pixels: np.ndarray
    aspect: float
    is_animated: bool = False


def thumbnail(row: ImageRow, resolve: UriResolver) -> Thumbnail | None:
    """Decode one image to its thumbnail; None when it cannot be read or has changed: it then has no near duplicates."""
    from PIL import Image

    try:
        image, data = _decoded(row, resolve)
    except (OSError, DecodeError):
        return None
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return Thumbnail(np.asarray(small, dtype=np.float32), image.width / image.height, has_frames(data))


def _decoded(row: ImageRow, resolve: UriResolver) -> tuple[Image.Image, bytes]:
    data = read_image(resolve(row["uri"]), row["sha256"])
    return decode(data, row.get("rotation") or 0), data


def near_exact(first: Thumbnail, second: Thumbnail) -> bool:
    """Whether two thumbnails show the same picture by the thresholds of this module; always False for animations."""
    if first.is_animated or second.is_animated or abs(first.aspect / second.aspect - 1) > ASPECT_TOLERANCE:
        return False
    difference = first.pixels - second.pixels
    grey = np.abs(difference @ _LUMA)
    tiles = grey.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    colour = np.abs(difference.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)))
    return bool(grey.mean() <= MEAN_DIFFERENCE and tiles.max() <= TILE_DIFFERENCE and colour.max() <= COLOUR_DIFFERENCE)


def same_detail(first: Image.Image, second: Image.Image) -> bool:
    """Whether two RGB pictures agree at full detail, by the thresholds of this module."""
    smaller = min(first.size, second.size, key=lambda size: size[0] * size[1])
    scale = min(1.0, DETAIL_SIDE / max(smaller))
    full, half = ((max(1, round(smaller[0] * s)), max(1, round(smaller[1] * s))) for s in (scale, scale / 2))
    left, right = _scaled(first, full), _scaled(second, full)
    if np.array_equal(left, right):
        return True
    # JPEG keeps colours at half the size and with more noise than grey
    return _agree(left @ _LUMA, right @ _LUMA, 6.0) and _agree(_scaled(first, half), _scaled(second, half), 12.0)


def _scaled(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) float32."""
    from PIL import Image

    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)


def _agree(first: np.ndarray, second: np.ndarray, noise: float) -> bool:
    """Compare (h, w) or (h, w, 3) in the windows with a contrast of `noise` levels or a quarter of the highest one."""
    import cv2

    first, second = (cv2.GaussianBlur(one, (0, 0), 1.0) for one in (first, second))
    contrast = np.maximum(_deviation(first, WINDOW), _deviation(second, WINDOW))
    highest = float(contrast.max())
    counted = contrast >= max(1.0, min(noise, highest / 4))
    ratios = _deviation(first - second, WINDOW)[counted] / contrast[counted]
    change = float(_deviation(first - second, WINDOW // 2).max())
    return bool(counted.any() and ratios.max() <= DETAIL_DIFFERENCE and change <= LARGEST_CHANGE * highest)


def _deviation(values: np.ndarray, window: int) -> np.ndarray:
    """Standard deviation in a window around each pixel, in the shape of `values`."""
    import cv2

    centred = values - values.mean()
    mean, squares = (cv2.boxFilter(one, -1, (window, window)) for one in (centred, centred * centred))
    return np.sqrt(np.maximum(squares - mean * mean, 0))


def _same_pictures(first: ImageRow, second: ImageRow, resolve: UriResolver) -> bool | None:
    try:
        pictures = [_decoded(row, resolve)[0] for row in (first, second)]
    except (OSError, DecodeError):
        return None
    return same_detail(*pictures)


def find_duplicates(pairs: Sequence[tuple[ImageRow, ImageRow, float]], resolve: UriResolver) -> list[bool | None]:
    """Tell for each pair (image row, image row, score) whether both files show the same picture.

    None: a picture cannot be read or has changed, so nobody knows. A result with None must not be kept as final.
    """
    # an image that was never opened has no sha256 and equals no other image by bytes
    same_bytes = [first["sha256"] is not None and first["sha256"] == second["sha256"] for first, second, _ in pairs]
    near = [not same and score >= DUPLICATE_SCORE for same, (_, _, score) in zip(same_bytes, pairs, strict=True)]
    rows = {
        _key(row): row
        for wanted, (first, second, _) in zip(near, pairs, strict=True)
        if wanted
        for row in (first, second)
    }
    small = _thumbnails(rows.values(), resolve, (1 - _COMPARING) * len(pairs) / max(1, len(rows)))

    def is_duplicate(place: int) -> bool | None:
        first, second, _ = pairs[place]
        if not near[place]:
            return same_bytes[place]
        left, right = small[_key(first)], small[_key(second)]
        if left is None or right is None:
            return None
        return near_exact(left, right) and _same_pictures(first, second, resolve)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(stepping(pool.map(is_duplicate, range(len(pairs))), _COMPARING))


def check_pairs(
    workspace: Workspace, scratch: Path, pairs: Sequence[tuple[ImageRow, ImageRow, float]], engine: Engine | None = None
) -> list[bool | None]:
    """`find_duplicates` for any number of pairs, in shards that stay under `scratch` until all are done.

    Says how many pairs could not be compared. A killed run continues where it stopped. Raises GapsError when a shard
    keeps failing.
    """
    if len(pairs) <= PAIRS_PER_SHARD:
        with waiting("comparing pictures"):
            marks = find_duplicates(pairs, workspace.resolve)
    else:
        marks = _in_shards(workspace, scratch, pairs, engine)
    report_not_compared(marks)
    _remember_open(open_file(scratch), pairs, marks)
    return marks


def open_file(scratch: Path) -> Path:
    """Where `check_pairs` keeps the pairs that it could not compare; absent if there are none."""
    return scratch.with_name(f"{scratch.name}-not-compared.json")


def can_compare(path: Path, resolve: UriResolver) -> bool:
    """Whether both pictures of a pair in an `open_file` can be read now."""
    return path.is_file() and any(all(thumbnail(row, resolve) is not None for row in pair) for pair in read_json(path))


def _remember_open(path: Path, pairs: Sequence[tuple[ImageRow, ImageRow, float]], marks: Sequence[bool | None]) -> None:
    if None not in marks and not path.is_file():
        return
    asked = [[_plain(first), _plain(second)] for first, second, _ in pairs]
    still = [pair for pair in (read_json(path) if path.is_file() else []) if pair not in asked]
    still += [pair for pair, mark in zip(asked, marks, strict=True) if mark is None]
    if still:
        write_json(path, still)
    else:
        path.unlink(missing_ok=True)


def report_not_compared(marks: Sequence[bool | None]) -> None:
    if unknown := sum(mark is None for mark in marks):
        say(
            f"{number_of(unknown, 'pair was', 'pairs were')} not compared, because a picture is missing, broken or "
            "changed: they do not count as the same picture"
        )


def _in_shards(
    workspace: Workspace, scratch: Path, pairs: Sequence[tuple[ImageRow, ImageRow, float]], engine: Engine | None
) -> list[bool | None]:
    lists = [[_plain(first), _plain(second), score] for first, second, score in pairs]
    plan = Plan(len(lists), PAIRS_PER_SHARD, fingerprint([VERSION, DECODE_VERSION, lists]))
    folder = open_plan(scratch, plan).absolute()
    write_json(folder / "pairs.json", lists)
    work = CheckShard(workspace.root.absolute(), folder)
    results = run_shards(folder, plan, work, engine, what="comparing pictures", unit="pairs")
    marks: list[bool | None] = []
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
        return Outcome((path.name,), {"duplicates": marks.count(True)})


def _plain(row: ImageRow) -> dict[str, Any]:
    return {name: row.get(name) for name in ("uri", "rotation", "sha256")}


def _thumbnails(rows: Iterable[ImageRow], resolve: UriResolver, each: float) -> dict[tuple[str, int], Thumbnail | None]:
    """Thumbnails by `_key`. each: pairs of the running shard that one of these stands for, for its progress."""
    rows = list(rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the GIL; results are in the order of rows
        found = pool.map(lambda row: thumbnail(row, resolve), rows)
        return {_key(row): small for row, small in zip(rows, stepping(found, each), strict=True)}


def _key(row: ImageRow) -> tuple[str, int]:
    return row["uri"], row.get("rotation") or 0
