"""Measure the training pairs, shard by shard: make the pictures, have them described, compute geometry.

No module that is imported here loads torch: it would take 0.3 GB in each worker process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from PIL import Image

from ndec_builder.candidates.geometry.fitting import single_threaded
from ndec_builder.core.executor.asking import Answerer, ask
from ndec_builder.core.executor.plan import Shard
from ndec_builder.core.executor.runner import Outcome
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.storage import atomic_path, write_table
from ndec_builder.edits.layers import HashedPictures
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.fused.features import background_rows, background_scores
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS, PairPicture, pair_vector, prepare_picture
from ndec_builder.training.fused.pairs import PairSample, rivals, samples_of_image, samples_of_pair
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.views import TRUNK_BATCH, load_backgrounds, load_picture, view_generator

if TYPE_CHECKING:
    from ndec_builder.embeddings.engines.trunk_source import TrunkSource

PICTURE_SIDE = 448  # px, longer side of edited pictures: above the working size of geometry, cheap to edit
MEASURED_PAIRS = pa.schema(
    [
        ("kind", pa.string()),
        ("is_copy", pa.bool_()),
        ("group", pa.string()),  # decides the fold
        ("score", pa.float64()),
        ("background", pa.float64()),
        *((name, pa.float64()) for name in PAIR_SIGNALS),  # raw, so that new features need no new measurement
        ("source", pa.int32()),  # row of data.images that the query was made from
        ("image", pa.int32()),  # row of data.images that the reference is, or was cut from
        ("query", pa.int32()),  # row of the shard's pooled features: of the query …
        ("cut", pa.int32()),  # … and of the reference, −1 where that is a stored image
    ]
)

# shares of the time of a shard, for its progress: making the pictures, their keypoints; the rest is for pairs
_MAKING, _DESCRIBING = 0.1, 0.4


@dataclass(frozen=True)
class MeasureShard:
    """Measure one shard: items 0 … n − 1 are the basic images, then the pairs. Picklable."""

    folder: Path  # absolute, of the plan
    config: FusedConfig
    data: TrainingSet
    uris: Sequence[str]  # of data.images
    rotations: Sequence[int]  # of the same, clockwise degrees
    vectors: np.ndarray  # (images, d) float32, L2-normed, whitened
    whitening: Whitening
    trunk: TrunkSource | None  # None: the process of the command describes the pictures

    def __call__(self, shard: Shard) -> Outcome:
        with single_threaded(), _describing(self.trunk) as describe:
            table, pooled = self._measure(shard, describe)
        names = (f"{shard.name}.parquet", f"{shard.name}.npy")
        write_table(self.folder / names[0], table)
        with atomic_path(self.folder / names[1]) as temporary:
            np.save(temporary, pooled.astype(np.float16))
        return Outcome(names, {"pairs": table.num_rows})

    def _measure(self, shard: Shard, describe: Answerer) -> tuple[pa.Table, np.ndarray]:
        """The pairs, and trunk features (n, dim) float32 of the pictures made: queries, then cut references."""
        samples = list(self._samples(shard))
        pooled = features_of_pictures([sample.query for sample in samples], describe)
        queries = self._vectors(pooled)
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
        references = np.stack([self.vectors[sample.row] for sample in samples])
        cut = np.full(len(samples), -1)
        if made := [place for place, sample in enumerate(samples) if sample.reference is not None]:
            cuts = features_of_pictures([picture for s in samples if (picture := s.reference) is not None], describe)
            references[made], cut[made] = self._vectors(cuts), len(pooled) + np.arange(len(made))
            pooled = np.concatenate([pooled, cuts])
        score = np.einsum("ij,ij->i", queries[places], references)
        background = background_scores(queries, self.vectors[rows], own)[places]
        signals = self._fit(samples, shard.items)
        groups, ids = self.data.images["group"].to_pylist(), self.data.images["image_id"].to_pylist()
        columns = {
            "kind": [sample.kind for sample in samples],
            "is_copy": [sample.is_copy for sample in samples],
            "group": [groups[sample.source] or ids[sample.source] for sample in samples],
            "score": score.astype(np.float64),
            "background": background,
            **{name: signals[:, column] for column, name in enumerate(PAIR_SIGNALS)},
            "source": [sample.source for sample in samples],
            "image": [sample.row for sample in samples],
            "query": places,
            "cut": cut,
        }
        return pa.table(columns, schema=MEASURED_PAIRS), pooled

    def _samples(self, shard: Shard) -> Iterator[PairSample]:
        sums = self.data.images["sha256"].to_pylist()
        basic = self.data.basic
        backgrounds = _backgrounds(tuple(self.uris[:basic]), tuple(self.rotations[:basic]), tuple(sums[:basic]))
        for item in stepping(range(shard.start, shard.stop), _MAKING):
            if item < self.data.basic:
                generator = view_generator(self.config.seed, sums[item], 0)
                picture = self._picture(item)
                copies = self.config.copies, self.config.editor_copies
                yield from samples_of_image(item, picture, generator, backgrounds, *copies)
            else:
                latter, former = self.data.pairs[item - self.data.basic].tolist()
                generator = view_generator(self.config.seed, sums[latter], 1, int(sums[former][:15], 16))
                pictures = self._picture(latter), self._picture(former)
                yield from samples_of_pair(latter, former, pictures, generator, backgrounds, self.config.editor_copies)

    def _picture(self, row: int) -> Image.Image:
        sha256 = self.data.images["sha256"][row].as_py()
        return load_picture(self.uris[row], PICTURE_SIDE, self.rotations[row], sha256)

    def _vectors(self, pooled: np.ndarray) -> np.ndarray:
        """(n, d) float32 whitened, L2-normed."""
        return unit_rows(self.whitening.apply(pooled))

    def stored_precision(self, trunk: TrunkSource) -> str | None:
        """In which precision the features in `folder` were computed; None without a finished first shard."""
        from ndec_builder.embeddings.engines.precision import stored_precision
        from ndec_builder.embeddings.preprocess import to_array

        name = Shard(0, 0, 1).name
        if not (self.folder / f"{name}.done.json").is_file():
            return None
        picture = next(self._samples(Shard(0, 0, 1))).query
        backbone = trunk.open()
        pixels = to_array(picture, backbone.size).transpose(1, 2, 0)[None]
        return stored_precision(backbone, pixels, np.load(self.folder / f"{name}.npy", mmap_mode="r")[:1])

    def _fit(self, samples: Sequence[PairSample], items: int) -> np.ndarray:
        """(n, len(PAIR_SIGNALS)) of the pairs. Keypoints of a picture are computed once; it is then closed."""
        made = {id(picture): picture for s in samples for picture in (s.query, s.reference) if picture is not None}
        pictures = stepping(made.items(), _DESCRIBING * items / max(1, len(made)))
        prepared = {}
        for key, picture in pictures:
            prepared[key] = prepare_picture(np.asarray(picture.convert("RGB")))
            picture.close()  # its pixels are not needed any more, and a shard makes hundreds of pictures
        rows = []
        for sample in stepping(samples, (1 - _MAKING - _DESCRIBING) * items / max(1, len(samples))):
            if sample.reference is not None:
                reference = prepared[id(sample.reference)]
            else:
                sha256 = self.data.images["sha256"][sample.row].as_py()
                reference = prepared_reference(self.uris[sample.row], self.rotations[sample.row], sha256)
            rows.append(pair_vector(prepared[id(sample.query)], reference))
        return np.array(rows).reshape(len(samples), len(PAIR_SIGNALS))


def features_of_pictures(pictures: Sequence[Image.Image], describe: Answerer) -> np.ndarray:
    """(n, dim) float32 trunk features of n > 0 pictures. describe: of a `PictureDescriber`."""
    parts = []
    for start in range(0, len(pictures), TRUNK_BATCH):
        parts.append(describe([np.asarray(one.convert("RGB")) for one in pictures[start : start + TRUNK_BATCH]]))
    return np.concatenate(parts)


@contextlib.contextmanager
def _describing(trunk: TrunkSource | None) -> Iterator[Answerer]:
    """What describes pictures: the process of the command or, with a trunk, this one."""
    if trunk is None:
        yield ask
        return
    from ndec_builder.training.fused.describe import PictureDescriber
    from ndec_builder.training.view_cache import torch_threads

    with torch_threads(1):
        yield PictureDescriber(trunk.open(), trunk.bf16, 1)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, d) of length 1, float32."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def prepared_reference(uri: str, rotation: int, sha256: str | None = None) -> PairPicture:
    """A stored picture that is used as reference."""
    return _packed_reference(uri, rotation, sha256).unpacked()


@lru_cache(maxsize=1500)  # 0.3 GB: keypoints are most of the cost of a pair
def _packed_reference(uri: str, rotation: int, sha256: str | None) -> PairPicture:
    picture = load_picture(uri, PICTURE_SIDE, rotation, sha256)
    return prepare_picture(np.asarray(picture.convert("RGB"))).packed()


@lru_cache(maxsize=1)
def _backgrounds(uris: tuple[str, ...], rotations: tuple[int, ...], sha256: tuple[str, ...]) -> HashedPictures:
    return load_backgrounds(uris, PICTURE_SIDE, rotations, sha256)
