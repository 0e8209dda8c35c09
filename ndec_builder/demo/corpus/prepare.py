"""Decode, shrink and describe every original once. The corpus keeps this in memory until roles are assigned."""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ndec_builder.core.console import say, track
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError
from ndec_builder.demo.corpus.dedupe import content_share, is_plain, structure
from ndec_builder.demo.corpus.originals import Licence, Original, Video
from ndec_builder.demo.corpus.video_frames import read_frames

LONGEST = 512  # px of the longest side: enough for every backbone, small enough for a demo
SHORTEST = 120  # px of the shortest side of an original: smaller ones are icons
_MAX_PIXELS = 40_000_000  # some clip-art has 168 megapixels; decoding it needs half a gigabyte
QUALITY = 95


@dataclass(frozen=True)
class PreparedPicture:
    """A picture ready to be written: JPEG bytes, structure (2, 1024) float32, and metadata."""

    image_id: str
    jpeg: bytes
    size: tuple[int, int]
    structure: np.ndarray
    family: str | None
    unit: str | None  # pictures of one unit go to the same split; None: the group decides
    scene: bool
    photo: bool
    licence: Licence


def prepare(
    originals: Sequence[Original], videos: Sequence[Video], workers: int = 0, unusable: Counter[str] | None = None
) -> list[PreparedPicture]:
    """Decode all in threads. The result is ascending by id for any number of threads. Unusable files are left out and
    counted by reason in `unusable`."""
    unusable = Counter() if unusable is None else unusable
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        frames = pool.map(_frames, videos)
        pictures = []
        for found in track(pool.map(_picture, originals), len(originals), "prepare"):
            if isinstance(found, str):
                unusable[found] += 1
            else:
                pictures.append(found)
        for more in frames:
            pictures += more
    return sorted(pictures, key=lambda picture: picture.image_id)


def sample_originals(originals: Iterable[Original], share: float, seed: int) -> list[Original]:
    """Keep about `share` of the families and of the single graphics, chosen by a hash. All photos are kept."""
    limit = int(share * 2**32)

    def kept(original: Original) -> bool:
        if original.photo or original.scene:
            return True
        name = f"{seed}/{original.family or original.image_id}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) < limit

    return [original for original in originals if kept(original)]


def shrink(image: Image.Image) -> Image.Image:
    """Longest side at most LONGEST, never enlarged."""
    factor = LONGEST / max(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def to_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _picture(original: Original) -> PreparedPicture | str:
    """The picture, or the reason why it is not used."""
    try:
        image = decode(original.read(), max_pixels=_MAX_PIXELS)
    except (DecodeError, OSError):
        return "cannot be decoded"
    if min(image.size) < SHORTEST:
        return f"smaller than {SHORTEST} pixels"
    image = shrink(image)
    if is_plain(image) or (
        not original.photo and content_share(image) < 0.25
    ):  # a small object on a large empty background
        return "plain, or mostly empty"
    return _prepared(
        original.image_id, image, original.family, original.unit, original.scene, original.photo, original.licence
    )


def _frames(video: Video) -> list[PreparedPicture]:
    try:
        frames = read_frames(video.path)
    except NdecError as error:
        say(str(error))
        return []
    return [
        _prepared(
            f"{video.image_id}-{frame.shot:02d}-{round(frame.seconds * 1000):06d}",
            shrink(frame.image),
            f"{video.image_id}-{frame.shot:02d}",
            video.image_id,
            True,
            True,
            {**video.licence, "title": f"{video.licence.get('title')}, {frame.seconds:.2f} s"},
        )
        for frame in frames
    ]


def _prepared(
    image_id: str, image: Image.Image, family: str | None, unit: str | None, scene: bool, photo: bool, licence: Licence
) -> PreparedPicture:
    return PreparedPicture(image_id, to_jpeg(image), image.size, structure(image), family, unit, scene, photo, licence)
