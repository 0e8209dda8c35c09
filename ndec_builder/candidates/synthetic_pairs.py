"""Pairs with known labels to learn pre-labels from: synthetic edits of the user's images, and neighbours of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.candidates.geometry.fitting import SIGNALS, Geometry, fit_stepwise, single_threaded
from ndec_builder.candidates.geometry.keypoints import DescribedPicture, describe_quickly
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.core.console import track
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import read_json, read_uri, write_bytes
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits.recipes import edit_image

TOO_ALIKE = 0.97  # cosine: the gallery may contain the picture twice
MOST_IMAGES = 20_000  # at most this many images are searched for neighbours
CROP_SHARE = (0.25, 0.75)  # share of the area of a reverse crop's query that its reference shows
PRELABEL_FEATURES = (
    "score", "fitted", *SIGNALS, "outside_seam", "no_seam", "outside_no_fit"
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images to learn from, held in memory: ids (n,), rows of their table by id, vectors (n, d) float32 L2-normed."""

    ids: list[str]
    rows: dict[str, dict[str, Any]]
    vectors: np.ndarray
    role: str = ""

    @classmethod
    def of(cls, side: RoleVectors, most: int = MOST_IMAGES, seed: int = 0) -> Gallery:
        """The embedded images of a role, or a random sample of `most` of them."""
        places = np.sort(np.random.default_rng(seed).permutation(len(side))[:most])
        ids = side.names(places)
        return cls(ids, side.rows(ids), side.vectors[places].astype(np.float32), side.role)


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """Features (n, d) float64, as PRELABEL_FEATURES; the kind of each pair, and the group of its reference."""

    features: np.ndarray
    kinds: list[str]
    groups: list[str]

    @property
    def is_copy(self) -> np.ndarray:
        return np.array([kind == "copy" for kind in self.kinds])


def geometry_features(score: float, geometry: Geometry) -> np.ndarray:
    """One pair as (d,) float64, as PRELABEL_FEATURES; unmeasured signals are 0, and indicators mark them."""
    values = dict(zip(SIGNALS, np.nan_to_num(geometry.vector()), strict=True))
    return signal_features(score, values, geometry.homography is not None, bool(np.isnan(geometry.seam)))


def signal_features(score: float, values: dict[str, float], fitted: bool, no_seam: bool) -> np.ndarray:
    values = values | {"inliers": np.log1p(values["inliers"]), "matches": np.log1p(values["matches"])}
    outside = 1 - values["query_inside"] if fitted else 0.0
    extra = [outside * values["seam"], float(no_seam), float(not fitted)]
    return np.array([score, float(fitted), *(values[name] for name in SIGNALS), *extra], np.float64)


def make_known_pairs(
    workspace: Workspace, gallery: Gallery, model: str, count: int, seed: int, scratch: Path, *, neighbours: bool = True
) -> KnownPairs:
    """Make `count` edited copies and half as many reverse crops of gallery images, and pair them.

    Each copy is paired with its original (copy) and with the nearest different image (copy_of_other), each original
    with its nearest image of a different group (neighbour), each full picture with its crop (reverse_crop).
    Near-duplicates in the gallery are left out: their label is unknown. Without `neighbours`: only copies and reverse
    crops. Deterministic.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(gallery.ids))[:count]
    pictures: dict[int, DescribedPicture] = {}
    made: list[tuple[str, int, np.ndarray]] = []
    for number, place in enumerate(track(chosen, len(chosen), "making pairs with known labels")):
        original = _open(workspace, gallery.rows[gallery.ids[place]])
        if original is None:
            continue
        edited = edit_image(original, "copy", np.random.default_rng([seed, 1, number])).image
        made.append(("copy", int(place), np.asarray(edited)))
        if number % 2 == 0 and min(original.size) >= 96:
            made.append(
                ("reverse_crop", int(place), np.asarray(_crop(original, np.random.default_rng([seed, 2, number]))))
            )
        pictures[int(place)] = describe_quickly(np.asarray(original))
    vectors = _embed_pictures(workspace, gallery.role, model, [pixels for _, _, pixels in made], scratch)
    with single_threaded():
        return _pair_up(workspace, gallery, made, vectors, pictures, neighbours)


def _pair_up(
    workspace: Workspace,
    gallery: Gallery,
    made: list[tuple[str, int, np.ndarray]],
    vectors: np.ndarray,
    pictures: dict[int, DescribedPicture],
    neighbours: bool,
) -> KnownPairs:
    stored = gallery.vectors

    def look(place: int) -> DescribedPicture | None:
        if place not in pictures and (image := _open(workspace, gallery.rows[gallery.ids[place]])) is not None:
            pictures[place] = describe_quickly(np.asarray(image))
        return pictures.get(place)

    features, kinds, groups = [], [], []

    def add(
        kind: str, query: DescribedPicture | None, reference: DescribedPicture | None, score: float, place: int
    ) -> None:
        if query is not None and reference is not None:
            features.append(geometry_features(score, fit_stepwise(query, reference)))
            kinds.append(kind)
            groups.append(gallery.rows[gallery.ids[place]]["group"] or gallery.ids[place])

    for (kind, place, pixels), vector in track(zip(made, vectors, strict=True), len(made), "measuring them"):
        picture, own = describe_quickly(pixels), pictures[place]
        score = float(vector @ stored[place])
        if kind == "reverse_crop":  # the full picture is the query, its crop the reference
            add(kind, own, picture, score, place)
            continue
        add("copy", picture, own, score, place)
        if not neighbours:
            continue
        other, similarity = _nearest(gallery, stored, vector, place)
        if other is not None:
            add("copy_of_other", picture, look(other), similarity, place)
        other, similarity = _nearest(gallery, stored, stored[place], place)
        if other is not None:
            add("neighbour", look(other), own, similarity, place)
    return KnownPairs(np.array(features), kinds, groups)


def _nearest(gallery: Gallery, stored: np.ndarray, vector: np.ndarray, place: int) -> tuple[int | None, float]:
    """The nearest image of a different group that is not a near-duplicate of image `place`; None if there is none."""
    scores, own = stored @ vector, gallery.rows[gallery.ids[place]]["group"]
    alike = stored @ stored[place]
    for other in np.argsort(-scores, kind="stable")[:50]:
        group = gallery.rows[gallery.ids[int(other)]]["group"]
        if other != place and (group is None or group != own) and alike[other] < TOO_ALIKE:
            return int(other), float(scores[other])
    return None, 0.0


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = float(np.sqrt(rng.uniform(*CROP_SHARE)))
    width, height = round(image.width * side), round(image.height * side)
    left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _embed_pictures(
    workspace: Workspace, role: str, model: str, pictures: list[np.ndarray], scratch: Path
) -> np.ndarray:
    """Vectors (n, d) float32, L2-normed, of pictures in the space of the stored embeddings of a role."""
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.extract import extract
    from ndec_builder.embeddings.whitening import Whitening

    rows: list[dict[str, Any]] = []
    for number, pixels in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        path = write_bytes(scratch / f"{number:06d}.jpg", buffer.getvalue())
        rows.append({"image_id": path.stem, "uri": str(path), "rotation": 0})
    found = extract(load_backbone(model, best_device("auto")), table_of(IMAGES, rows), str)
    vectors = found.features
    if read_json(workspace.embeddings(role, model) / "run.json")["layer"] == "whitened":
        vectors = Whitening.load(workspace.whitening(model) / "whitening.npz").apply(vectors)
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _open(workspace: Workspace, row: dict[str, Any]) -> Image.Image | None:
    try:
        return decode(read_uri(workspace.resolve(row["uri"])), row["rotation"] or 0)
    except (OSError, DecodeError):
        return None
