"""Read the training set of a manifest: images, classes, directed hard negative pairs. Refuses leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ndec_builder.core.errors import NdecError
from ndec_builder.core.fingerprints import decode_versions
from ndec_builder.training.recipes import TrainingRecipe

if TYPE_CHECKING:
    from ndec_builder.manifests.read import Manifest

IMAGE_COLUMNS = ["image_id", "uri", "sha256", "group", "rotation"]


@dataclass(frozen=True)
class TrainingSet:
    """Images (rows) with their CosFace classes, and pairs of rows."""

    images: pa.Table  # COLUMNS; basic images first, then those that only pairs use; ascending ids within each
    basic: int  # the first so many rows are basic images
    classes: np.ndarray  # (n,) int64, 0 … class_count − 1
    pairs: np.ndarray  # (p, 2) int64 rows (latter, former), in the order of pair_id
    directed: np.ndarray  # (p,) bool: in the norm term; False where the reverse pair is also listed

    @property
    def class_count(self) -> int:
        return int(self.classes.max()) + 1 if len(self.classes) else 0

    def without(self, image_ids: set[str]) -> TrainingSet:
        """The set without these images and their pairs; classes are renumbered."""
        if not image_ids:
            return self
        keep = np.array([image_id not in image_ids for image_id in self.images["image_id"].to_pylist()])
        row = np.cumsum(keep) - 1
        complete = keep[self.pairs].all(axis=1)
        return TrainingSet(
            self.images.filter(pa.array(keep)),
            int(keep[: self.basic].sum()),
            _renumber(self.classes[keep]),
            row[self.pairs[complete]].reshape(-1, 2),
            self.directed[complete],
        )

    def identity(self) -> list[object]:
        """Everything of the set that a result depends on, for fingerprints; not where the images are stored.

        An image that was never opened has no sha256; its address stands for its content.
        """
        columns = [self.images[name].to_pylist() for name in IMAGE_COLUMNS if name not in ("uri", "rotation")]
        columns.append(
            [
                None if sha256 else uri
                for sha256, uri in zip(self.images["sha256"].to_pylist(), self.images["uri"].to_pylist(), strict=True)
            ]
        )
        rotations = [rotation or 0 for rotation in self.images["rotation"].to_pylist()]
        arrays = (self.classes, self.pairs, self.directed)
        return [*columns, rotations, self.basic, *(array.tolist() for array in arrays), *decode_versions(self.images)]

    def facts(self) -> dict[str, int]:
        return {
            "images": self.images.num_rows,
            "basic_images": self.basic,
            "classes": self.class_count,
            "pairs": len(self.pairs),
            "pairs_in_both_directions": int((~self.directed).sum()),
        }


def read_images(manifest: Manifest) -> pa.Table:
    """All training images of a manifest, for any recipe: all recipes share one view cache.

    Raises NdecError when an image, or its group, is also among the queries or references.
    """
    tables = [
        manifest.table(name).select(IMAGE_COLUMNS).sort_by("image_id") for name in ("train_basic", "train_pair_images")
    ]
    images = pa.concat_tables(tables)
    refuse_overlap(manifest, images)
    return images


def read_training_set(manifest: Manifest, recipe: TrainingRecipe) -> TrainingSet:
    """Training images of a manifest, with the pairs and their images if the recipe uses them.

    Raises NdecError without basic images, and when a pair names an image that is in no table.
    """
    basic, extra = manifest.table("train_basic"), manifest.table("train_pair_images")
    if basic.num_rows == 0:
        raise NdecError(
            f"the manifest {manifest.directory} has no train_basic images, so there is nothing to train on; "
            "ingest some with `ndec ingest basic FOLDER` and export again"
        )
    pairs = manifest.table("train_pairs").sort_by("pair_id") if recipe.uses_pairs else None
    tables = [basic] if pairs is None else [basic, extra]
    images = pa.concat_tables([table.select(IMAGE_COLUMNS).sort_by("image_id") for table in tables])
    rows = {image_id: row for row, image_id in enumerate(images["image_id"].to_pylist())}
    directed_pairs = _pair_rows(pairs, rows, manifest)
    both = {(former, latter) for latter, former in directed_pairs.tolist()}
    return TrainingSet(
        images,
        basic.num_rows,
        _classes(len(rows), directed_pairs if recipe.pair_classes == "shared" else directed_pairs[:0]),
        directed_pairs,
        np.array([(latter, former) not in both for latter, former in directed_pairs.tolist()], dtype=bool),
    )


def refuse_overlap(manifest: Manifest, training: pa.Table) -> None:
    """Raise NdecError when a file (sha256) or a group is on both sides; null groups never match."""
    for column in ("sha256", "group"):
        used = set(training[column].to_pylist()) - {None, ""}
        for table in ("queries", "references"):
            shared = sorted(used & set(manifest.table(table)[column].to_pylist()))
            if shared:
                raise NdecError(
                    f"the manifest {manifest.directory} has {len(shared)} {column} value(s) in its training tables and "
                    f"in its {table}, first {shared[0]!r}; training on queries or references is forbidden: remove "
                    "these images from the basic images or from the test side and export again"
                )


def _pair_rows(pairs: pa.Table | None, rows: dict[str, int], manifest: Manifest) -> np.ndarray:
    """(p, 2) int64 rows (latter, former)."""
    found: list[tuple[int, int]] = []
    entries: list[dict[str, Any]] = [] if pairs is None else pairs.to_pylist()
    for pair in entries:
        for side in ("latter_id", "former_id"):
            if pair[side] not in rows:
                raise NdecError(
                    f"pair {pair['pair_id']} of {manifest.directory} names the {side} {pair[side]!r}, which is in "
                    "neither train_basic nor train_pair_images; run `ndec validate` and export again"
                )
        if pair["latter_id"] == pair["former_id"]:
            raise NdecError(f"pair {pair['pair_id']} of {manifest.directory} pairs {pair['latter_id']!r} with itself")
        found.append((rows[pair["latter_id"]], rows[pair["former_id"]]))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _classes(count: int, joined: np.ndarray) -> np.ndarray:
    """One class per image; pairs in `joined` share a class, and a chain of pairs is one class. (count,) int64."""
    links = coo_array((np.ones(len(joined), bool), joined.T), shape=(count, count))
    component = connected_components(links, directed=False)[1]
    return _renumber(np.unique(component, return_index=True)[1][component])  # in the order of their first images


def _renumber(classes: np.ndarray) -> np.ndarray:
    return np.unique(classes, return_inverse=True)[1].reshape(-1).astype(np.int64)
