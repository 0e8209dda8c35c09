"""The works that make and measure the pairs of `known_pairs`, shard by shard."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.candidates.geometry.fitting import SIGNALS, Geometry, fit_stepwise, single_threaded
from ndec_builder.candidates.geometry.keypoints import DescribedPicture, describe_quickly
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.executor.plan import Shard
from ndec_builder.core.executor.runner import Outcome
from ndec_builder.core.executor.shard_items import step, stepping
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.storage import atomic_path, read_json, write_bytes, write_json
from ndec_builder.edits.recipes import edit_image

TOO_ALIKE = 0.97  # cosine: the gallery may contain the picture twice
CROP_SHARE = (0.25, 0.75)  # share of the area of a reverse crop's query that its reference shows
PRELABEL_FEATURES = (
    "score", "fitted", *SIGNALS, "outside_seam", "no_seam", "outside_no_fit"
)  # fmt: skip
_FIELDS = fields(DescribedPicture)


def geometry_features(score: float, geometry: Geometry) -> np.ndarray:
    """One pair as (d,) float64, as PRELABEL_FEATURES; unmeasured signals are 0, and indicators mark them."""
    values = dict(zip(SIGNALS, np.nan_to_num(geometry.vector()), strict=True))
    return signal_features(score, values, geometry.homography is not None, bool(np.isnan(geometry.seam)))


def signal_features(score: float, values: dict[str, float], fitted: bool, no_seam: bool) -> np.ndarray:
    values = values | {"inliers": np.log1p(values["inliers"]), "matches": np.log1p(values["matches"])}
    outside = 1 - values["query_inside"] if fitted else 0.0
    extra = [outside * values["seam"], float(no_seam), float(not fitted)]
    return np.array([score, float(fitted), *(values[name] for name in SIGNALS), *extra], np.float64)


@dataclass(frozen=True, eq=False)
class GalleryPictures:
    """The pictures of a gallery by place; picklable."""

    uris: list[str]
    rotations: list[int]
    sha256: list[str | None]  # that their bytes must have; None: unknown

    def open(self, place: int) -> Image.Image | None:
        """None if the picture cannot be read or has changed: it does not fit its vector then."""
        return _open(self.uris[place], self.rotations[place], self.sha256[place])

    def describe(self, place: int) -> DescribedPicture | None:
        return _described(self.uris[place], self.rotations[place], self.sha256[place])


@lru_cache(maxsize=1000)  # half a gigabyte; neighbours of many pictures are the same
def _described(uri: str, rotation: int, sha256: str | None) -> DescribedPicture | None:
    image = _open(uri, rotation, sha256)
    return None if image is None else describe_quickly(np.asarray(image))


def forget_pictures() -> None:
    """Free the pictures that this process has described."""
    _described.cache_clear()
    _gallery_vectors.cache_clear()


@dataclass(frozen=True, eq=False)
class MakeShard:
    """Makes the pictures of one shard: items are entries of `chosen`. Picklable.

    Writes a JPEG and the keypoints of each, and a list of them: file, kind, and the gallery place of the original.
    """

    folder: Path
    pictures: GalleryPictures
    chosen: np.ndarray
    seed: int

    def __call__(self, shard: Shard) -> Outcome:
        rows: list[dict[str, Any]] = []
        keypoints: dict[str, np.ndarray] = {}
        for number in stepping(range(shard.start, shard.stop)):
            place = int(self.chosen[number])
            original = self.pictures.open(place)
            if original is None:
                continue
            made = {"copy": edit_image(original, "copy", np.random.default_rng([self.seed, 1, number])).image}
            if number % 2 == 0 and min(original.size) >= 96:
                made["reverse_crop"] = _crop(original, np.random.default_rng([self.seed, 2, number]))
            for kind, picture in made.items():
                pixels, name = np.asarray(picture), f"{shard.name}-{len(rows):04d}"
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
                write_bytes(self.folder / f"{name}.jpg", buffer.getvalue())
                with single_threaded():
                    described = describe_quickly(pixels)
                keypoints |= {f"{len(rows)}-{field.name}": getattr(described, field.name) for field in _FIELDS}
                rows.append({"file": f"{name}.jpg", "kind": kind, "place": place})
        path = self.folder / f"{shard.name}.npz"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **keypoints)
        listed = write_json(self.folder / f"{shard.name}.json", rows)
        return Outcome((path.name, listed.name, *(row["file"] for row in rows)), {"pictures": len(rows)})


@dataclass(frozen=True, eq=False)
class MeasurePairs:
    """Pairs the pictures that MakeShard made for the same shard, and measures the pairs. Picklable.

    made: folder of MakeShard, with made.npy and gallery.npy (n, d) float32, L2-normed · groups: of the gallery ·
    starts: first row of each shard in made.npy.
    """

    folder: Path
    made: Path
    pictures: GalleryPictures
    groups: list[str | None]
    starts: list[int]
    neighbours: bool

    def __call__(self, shard: Shard) -> Outcome:
        with single_threaded():
            found = list(self._measured(shard))
        path = self.folder / f"{shard.name}.npz"
        features = np.array([row for _, row, _ in found]).reshape(len(found), len(PRELABEL_FEATURES))
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            kinds = np.array([kind for kind, _, _ in found], np.str_)
            np.savez(file, features=features, kinds=kinds, places=np.array([place for _, _, place in found], np.int64))
        return Outcome((path.name,), {"pairs": len(found)})

    def _measured(self, shard: Shard) -> Iterator[tuple[str, np.ndarray, int]]:
        """Kind, features (d,) and the gallery place of the image that decides the group, of each pair."""
        gallery = self.made / "gallery.npy"
        stored = _gallery_vectors(gallery, gallery.stat().st_mtime_ns)
        vectors = np.load(self.made / "made.npy")[self.starts[shard.index] : self.starts[shard.index + 1]]
        rows = read_json(self.made / f"{shard.name}.json")
        with np.load(self.made / f"{shard.name}.npz", allow_pickle=False) as keypoints:
            for number, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
                step(shard.items / len(rows))
                place = row["place"]
                picture = DescribedPicture(**{field.name: keypoints[f"{number}-{field.name}"] for field in _FIELDS})
                own, score = self.pictures.describe(place), float(vector @ stored[place])
                pairs: list[tuple[str, DescribedPicture | None, DescribedPicture | None, float, int]] = []
                if row["kind"] == "reverse_crop":  # the full picture is the query, its crop the reference
                    pairs.append(("reverse_crop", own, picture, score, place))
                else:
                    pairs.append(("copy", picture, own, score, place))
                    if self.neighbours:
                        other, similarity = _nearest(self.groups, stored, vector, place)
                        if other is not None:
                            pairs.append(("copy_of_other", picture, self.pictures.describe(other), similarity, place))
                        other, similarity = _nearest(self.groups, stored, stored[place], place)
                        if other is not None:
                            pairs.append(("neighbour", self.pictures.describe(other), own, similarity, place))
                for kind, query, reference, similarity, of in pairs:
                    if query is not None and reference is not None:
                        yield kind, geometry_features(similarity, fit_stepwise(query, reference)), of


@lru_cache(maxsize=1)
def _gallery_vectors(path: Path, _written: int) -> np.ndarray:  # a worker lives on when the file is written again
    vectors: np.ndarray = np.load(path)
    return vectors


def _nearest(groups: list[str | None], stored: np.ndarray, vector: np.ndarray, place: int) -> tuple[int | None, float]:
    """The nearest image of a different group that is not a near-duplicate of image `place`; None if there is none."""
    scores, own = stored @ vector, groups[place]
    alike = stored @ stored[place]
    for other in np.argsort(-scores, kind="stable")[:50]:
        group = groups[int(other)]
        if other != place and (group is None or group != own) and alike[other] < TOO_ALIKE:
            return int(other), float(scores[other])
    return None, 0.0


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = float(np.sqrt(rng.uniform(*CROP_SHARE)))
    width, height = round(image.width * side), round(image.height * side)
    left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _open(uri: str, rotation: int, sha256: str | None) -> Image.Image | None:
    try:
        return decode(read_image(uri, sha256), rotation)
    except (OSError, DecodeError):
        return None
