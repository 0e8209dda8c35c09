"""Training images → measured pairs, shard by shard: pictures are made, described, fitted and forgotten again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from ndec_builder.candidates.geometry import SIGNALS, fit_pictures, single_threaded
from ndec_builder.candidates.keypoints import Picture, describe
from ndec_builder.core.plans import Shard
from ndec_builder.core.shards import Outcome
from ndec_builder.core.storage import write_table
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.inference import Inference
from ndec_builder.embeddings.preprocess import to_array
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.cache import BATCH, torch_threads
from ndec_builder.training.cache import describe as describe_batch
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.fused.features import FEATURES, background_rows, background_scores, features
from ndec_builder.training.fused.pairs import Sample, rivals, samples_of_image, samples_of_pair
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.views import load_backgrounds, load_picture, view_generator

SIDE = 448  # px, longer side of pictures that edits are made of: above the working size of geometry, cheap to edit
MEASURED = pa.schema(
    [
        ("kind", pa.string()),
        ("is_copy", pa.bool_()),
        ("weight", pa.float64()),
        ("group", pa.string()),  # that decides the fold: of the reference's image
        *((name, pa.float32()) for name in FEATURES),
    ]
)

_backbones: dict[str, Backbone] = {}  # one a process


@dataclass(frozen=True)
class MeasureShard:
    """The work of one shard: items 0 … n − 1 are the basic images, then come the pairs. Picklable."""

    folder: Path  # absolute, of the plan
    config: FusedConfig
    data: TrainingSet
    uris: Sequence[str]  # of data.images
    rotations: Sequence[int]  # of the same, clockwise degrees
    vectors: np.ndarray  # (images, d) float32, L2-normed, whitened
    whitening: Whitening

    def __call__(self, shard: Shard) -> Outcome:
        single_threaded()
        with torch_threads(1):
            table = self._measure(shard)
        name = f"{shard.name}.parquet"
        write_table(self.folder / name, table)
        return Outcome((name,), {"pairs": table.num_rows})

    def _measure(self, shard: Shard) -> pa.Table:
        samples = list(self._samples(shard))
        queries = self._embed([sample.query for sample in samples])
        rows = background_rows(self.data.basic)
        place = {row: number for number, row in enumerate(rows.tolist())}
        own = np.array([place.get(sample.source, -1) for sample in samples])
        scores = queries @ self.vectors.T
        count, more = self.config.rivals, []
        for number, sample in enumerate(list(samples)):
            if sample.kind == "copy" and count:
                more += [(number, rival) for rival in rivals(sample, scores[number], self.data, count)]
        places = [*range(len(samples)), *(place for place, _ in more)]
        samples += [rival for _, rival in more]
        references = self._references(samples)
        score = np.einsum("ij,ij->i", queries[places], references)
        background = background_scores(queries, self.vectors[rows], own)[places]
        described = {id(sample.query): describe(np.asarray(sample.query.convert("RGB"))) for sample in samples}
        signals = np.array([self._fit(described[id(sample.query)], sample) for sample in samples])
        measured = features(score, background, signals.reshape(len(samples), len(SIGNALS)))
        groups, ids = self.data.images["group"].to_pylist(), self.data.images["image_id"].to_pylist()
        columns = {
            "kind": [sample.kind for sample in samples],
            "is_copy": [sample.is_copy for sample in samples],
            "weight": [sample.weight for sample in samples],
            "group": [groups[sample.source] or ids[sample.source] for sample in samples],
            **{name: measured[:, column] for column, name in enumerate(FEATURES)},
        }
        return pa.table(columns, schema=MEASURED)

    def _samples(self, shard: Shard) -> Iterator[Sample]:
        backgrounds = _backgrounds(tuple(self.uris[: self.data.basic]), tuple(self.rotations[: self.data.basic]))
        sums = self.data.images["sha256"].to_pylist()
        for item in range(shard.start, shard.stop):
            if item < self.data.basic:
                generator = view_generator(self.config.seed, sums[item], 0)
                picture = self._picture(item)
                yield from samples_of_image(item, picture, generator, backgrounds, self.config.copies)
            else:
                latter, former = self.data.pairs[item - self.data.basic].tolist()
                generator = view_generator(self.config.seed, sums[latter], 1, int(sums[former][:15], 16))
                pictures = self._picture(latter), self._picture(former)
                yield from samples_of_pair(latter, former, pictures, generator, backgrounds, self.config.hard_weight)

    def _picture(self, row: int) -> Image.Image:
        return load_picture(self.uris[row], SIDE, self.rotations[row])

    def _references(self, samples: Sequence[Sample]) -> np.ndarray:
        """(n, d) float32 vectors of the references; those cut out here are described, the others are known."""
        vectors = np.stack([self.vectors[sample.row] for sample in samples])
        cut = [place for place, sample in enumerate(samples) if sample.reference is not None]
        if cut:
            vectors[cut] = self._embed([picture for s in samples if (picture := s.reference) is not None])
        return vectors

    def _embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """(n, d) float32 whitened, L2-normed vectors, in batches of one shape."""
        name = self.config.backbone
        backbone = _backbones.get(name) or _backbones.setdefault(name, load_backbone(name))
        model = Inference(backbone, self.config.bf16)
        parts = []
        for start in range(0, len(pictures), BATCH):
            some = [to_array(picture, backbone.size) for picture in pictures[start : start + BATCH]]
            filled = np.zeros((BATCH, *some[0].shape), np.uint8)
            filled[: len(some)] = some
            parts.append(describe_batch(model, filled)[: len(some)])
        return unit(self.whitening.apply(np.concatenate(parts)))

    def _fit(self, query: Picture, sample: Sample) -> np.ndarray:
        if sample.reference is not None:
            reference = describe(np.asarray(sample.reference.convert("RGB")))
        else:
            reference = _described(self.uris[sample.row], self.rotations[sample.row])
        return fit_pictures(query, reference).vector()


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, d) of length 1, float32."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


@lru_cache(maxsize=256)
def _described(uri: str, rotation: int) -> Picture:
    return describe(np.asarray(load_picture(uri, SIDE, rotation).convert("RGB")))


@lru_cache(maxsize=1)
def _backgrounds(uris: tuple[str, ...], rotations: tuple[int, ...]) -> list[Image.Image]:
    return load_backgrounds(uris, SIDE, rotations)
