"""Pairs with known labels to learn pre-labels from: synthetic edits of the user's images, and neighbours of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.shared_vectors import save_array
from ndec_builder.candidates.synthetic.shard_works import GalleryPictures, MakeShard, MeasurePairs, forget_pictures
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, open_plan
from ndec_builder.core.executor.runner import run_shards
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import fingerprint, read_json
from ndec_builder.core.workspace import Workspace

MOST_IMAGES = 20_000  # at most this many images are searched for neighbours
MADE_PER_SHARD = 16
BATCH = 8  # pictures embedded at a time


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


def make_known_pairs(
    workspace: Workspace,
    gallery: Gallery,
    model: str,
    count: int,
    seed: int,
    scratch: Path,
    *,
    neighbours: bool = True,
    engine: Engine | None = None,
) -> KnownPairs:
    """Make `count` edited copies and half as many reverse crops of gallery images, and pair them.

    Each copy is paired with its original (copy) and with the nearest different image (copy_of_other), each original
    with its nearest image of a different group (neighbour), each full picture with its crop (reverse_crop).
    Near-duplicates in the gallery are left out: their label is unknown. Without `neighbours`: only copies and reverse
    crops. Deterministic, on any engine. `scratch` is emptied first; the caller removes it.
    """
    engine = engine if engine is not None and engine.name == "ray" else Engine(here=True)
    shutil.rmtree(scratch, ignore_errors=True)
    chosen = np.random.default_rng(seed).permutation(len(gallery.ids))[:count]
    plan = Plan(len(chosen), MADE_PER_SHARD, fingerprint([gallery.ids, seed]))
    folder = open_plan(scratch / "made", plan).absolute()
    rows = [gallery.rows[name] for name in gallery.ids]
    pictures = GalleryPictures(
        [workspace.resolve(row["uri"]) for row in rows],
        [row["rotation"] or 0 for row in rows],
        [row["sha256"] for row in rows],
    )
    run_shards(folder, plan, MakeShard(folder, pictures, chosen, seed), engine, what="making pairs with known labels",
               unit="images")  # fmt: skip
    made = [read_json(folder / f"{shard.name}.json") for shard in plan.shards]
    paths = [folder / row["file"] for rows in made for row in rows]
    vectors = _embed_pictures(workspace, gallery.role, model, paths, scratch / "vectors", engine)
    save_array(folder / "made.npy", vectors)
    save_array(folder / "gallery.npy", gallery.vectors)
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in made])]).tolist()
    groups = [gallery.rows[name]["group"] for name in gallery.ids]
    out = open_plan(scratch / "measured", plan).absolute()
    work = MeasurePairs(out, folder, pictures, groups, starts, neighbours)
    run_shards(out, plan, work, engine, what="measuring them", unit="images")
    forget_pictures()  # the process of a demo or a program lives on
    features: list[np.ndarray] = []
    kinds: list[str] = []
    places: list[int] = []
    for shard in plan.shards:
        with np.load(out / f"{shard.name}.npz", allow_pickle=False) as found:
            features += [*found["features"]]
            kinds += found["kinds"].tolist()
            places += found["places"].tolist()
    return KnownPairs(np.array(features), kinds, [groups[place] or gallery.ids[place] for place in places])


def _embed_pictures(
    workspace: Workspace, role: str, model: str, paths: list[Path], scratch: Path, engine: Engine
) -> np.ndarray:
    """Vectors (n, d) float32, L2-normed, of pictures in space and precision of the stored embeddings of a role."""
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.engines.describe_shards import describe_in_shards
    from ndec_builder.embeddings.engines.precision import bf16_for
    from ndec_builder.embeddings.engines.trunk_source import TrunkSource
    from ndec_builder.embeddings.extract import extract
    from ndec_builder.embeddings.whitening import Whitening

    rows = [{"image_id": path.stem, "uri": str(path), "rotation": 0} for path in paths]
    table, backbone = table_of(IMAGES, rows), load_backbone(model, best_device("auto"))
    stored = read_json(workspace.embeddings(role, model) / "run.json")
    bf16 = bf16_for(stored.get("precision"), backbone)
    if engine.name == "ray":
        trunk, mark = TrunkSource.of(backbone, bf16), fingerprint([str(path) for path in paths])
        found = describe_in_shards(engine, scratch, trunk, table, BATCH, mark)
    else:
        found = extract(backbone, table, str, batch_size=BATCH, bf16=bf16)
    vectors = found.features
    if stored["layer"] == "whitened":
        vectors = Whitening.load(workspace.whitening(model) / "whitening.npz").apply(vectors)
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
