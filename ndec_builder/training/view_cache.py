"""The view cache: trunk features of every view, computed shard by shard and reused by later runs."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ndec_builder.core.executor.base import Engine, task_threads
from ndec_builder.core.executor.plan import Plan, Shard
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.fingerprints import decode_versions
from ndec_builder.core.locks import locked
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.storage import (
    atomic_path,
    fingerprint,
    read_table,
    sha256_bytes,
    write_table,
)
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.engines.precision import precision_of
from ndec_builder.embeddings.engines.trunk_source import TrunkSource
from ndec_builder.embeddings.extract import in_order
from ndec_builder.embeddings.inference import Inference, to_host
from ndec_builder.training.views import MAX_BACKGROUNDS, TRUNK_BATCH, View, ViewMaker, view_kinds

RESULT_VERSION = 2
SHARD_IMAGES = 128
CACHED_VIEWS = pa.schema(
    [
        ("image_id", pa.string()),
        ("view", pa.int32()),
        ("recipe", pa.string()),
        ("content_share", pa.float32()),
        ("adds_content", pa.bool_()),
        ("edits", pa.string()),  # json: the recorded operations
    ]
)


@dataclass(frozen=True)
class CachedViews:
    """Trunk features of the views of those images that could be read, in the order of the training set."""

    ids: list[str]
    features: np.ndarray  # (n, views, dim) float16, not normalised; view 0 is the original
    content_share: np.ndarray  # (n, views) float32
    adds_content: np.ndarray  # (n, views) bool
    rejects: list[dict[str, Any]]  # rows of schema REJECTS
    fingerprint: str

    def of(self, ids: Sequence[str]) -> CachedViews:
        """The views of these images, in this order."""
        rows = {image_id: row for row, image_id in enumerate(self.ids)}
        chosen = [rows[image_id] for image_id in ids]
        return CachedViews(
            list(ids),
            self.features[chosen],
            self.content_share[chosen],
            self.adds_content[chosen],
            self.rejects,
            self.fingerprint,
        )


def cache_views(
    root: Path,
    backbone: Backbone,
    images: pa.Table,
    maker: ViewMaker,
    kinds: Sequence[str],
    bf16: str,
    threads: int,
    engine: Engine | None = None,
) -> CachedViews:
    """Compute the views under `root/<fingerprint>/`; existing shards are read, unless a rejected image is readable now.

    An interrupted run continues at the first missing shard. A second run that needs the same views waits. The local
    engine makes them in this process, in `threads`; a task on Ray uses one core, and loads the backbone by its name.
    """
    ids = images["image_id"].to_pylist()
    given = backbone.fingerprint, ids, maker, kinds, bf16, decode_versions(images)
    precision = precision_of(bf16, backbone) if bf16 == "auto" else ""
    mark = views_fingerprint(*given, precision=precision)
    rows = images.select(["image_id", "uri"]).to_pylist()
    plan = Plan(len(rows), SHARD_IMAGES, mark)
    lacking = len(maker.backgrounds) < min(MAX_BACKGROUNDS, len(ids))
    if lacking and not all((root / mark[:16] / f"{shard.name}.done.json").is_file() for shard in plan.shards):
        mark = views_fingerprint(*given, precision=precision, replaced=True)
        plan = Plan(len(rows), SHARD_IMAGES, mark)
    directory = (root / mark[:16]).absolute()
    trunk: Backbone | TrunkSource = backbone
    if engine is not None and engine.name == "ray":
        trunk = TrunkSource.of(backbone, bf16)
        engine = replace(engine, gpus=float(trunk.device == "cuda"))
    else:
        engine = Engine(here=True)
    work = ViewShard(directory, rows, trunk, maker, tuple(kinds), bf16, threads)
    with locked(directory, wait=True):  # all recipes share these views, and two may be trained at once
        for shard in plan.shards:
            _forget_if_readable(directory, shard, maker, ids)
        run_shards(directory, plan, work, engine, what="views", unit="images")
        return _read(directory, plan.shards, len(kinds), mark)


def views_fingerprint(
    trunk: str,
    ids: Sequence[str],
    maker: ViewMaker,
    kinds: Sequence[str],
    bf16: str,
    decoding: Sequence[int] = (),
    *,
    precision: str = "",
    replaced: bool = False,
) -> str:
    """Everything that the cached views depend on: trunk, images (ids, bytes, rotations), kinds, seed and precision.

    precision: what bf16 = auto means on this machine. The pictures that copies are pasted on follow from the others,
    unless some of them cannot be read (`replaced`).
    """
    parts: list[object] = [RESULT_VERSION, trunk, list(ids), list(maker.sha256), list(kinds), maker.seed, bf16]
    parts += [["decoding", *decoding]] if decoding else []
    parts += [["precision", precision]] if precision else []
    parts += [list(maker.rotations)] if any(maker.rotations) else []
    parts += [["backgrounds", *(sha256_bytes(picture.tobytes()) for picture in maker.backgrounds)]] if replaced else []
    return fingerprint(parts)


def _forget_if_readable(directory: Path, shard: Shard, maker: ViewMaker, ids: list[str]) -> None:
    """Remove the marker of a shard if one of its rejected images is readable now, so that the shard is recomputed."""
    path = directory / f"{shard.name}.rejects.parquet"
    if not path.is_file():
        return
    rejected = set(read_table(path)["image_id"].to_pylist())
    rows = [row for row in range(shard.start, shard.stop) if ids[row] in rejected]
    if any(not isinstance(_views_of(maker, row, view_kinds(1)), str) for row in rows):
        (directory / f"{shard.name}.done.json").unlink(missing_ok=True)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch threads, which changes the last bits of sums, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class ViewShard:
    """Makes and describes the views of one shard. Picklable with a TrunkSource, for tasks on other machines."""

    directory: Path
    rows: list[dict[str, Any]]  # image_id and uri of each image
    trunk: Backbone | TrunkSource
    maker: ViewMaker
    kinds: tuple[str, ...]
    bf16: str
    threads: int  # where the engine does not limit them

    def __call__(self, shard: Shard) -> Outcome:
        with torch_threads(1):  # lanes compute in parallel, each in one thread
            described, rejects, features = self._describe(shard)
        names = (f"{shard.name}.npy", f"{shard.name}.parquet", f"{shard.name}.rejects.parquet")
        with atomic_path(self.directory / names[0]) as temporary:
            np.save(temporary, features.astype(np.float16))
        write_table(self.directory / names[1], pa.Table.from_pylist(described, schema=CACHED_VIEWS))
        write_table(self.directory / names[2], table_of(REJECTS, rejects))
        return Outcome(names, {"views": len(described), "rejects": len(rejects)})

    def _describe(self, shard: Shard) -> tuple[list[dict[str, Any]], list[dict[str, Any]], np.ndarray]:
        """Rows of CACHED_VIEWS, rows of REJECTS, and trunk features (views, dim) float32."""
        described: list[dict[str, Any]] = []
        rejects: list[dict[str, Any]] = []
        backbone = self.trunk.open() if isinstance(self.trunk, TrunkSource) else self.trunk
        threads = task_threads() or self.threads
        lanes = threads if backbone.device.type == "cpu" else 1
        model = Inference(backbone, self.bf16, lanes)

        def usable() -> Iterator[View]:
            for row, views in stepping(_made(range(shard.start, shard.stop), self.maker, self.kinds, threads)):
                if isinstance(views, str):
                    rejects.append({**self.rows[row], "reason": views})
                    continue
                described.extend(_row(self.rows[row]["image_id"], number, view) for number, view in enumerate(views))
                yield from views

        with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
            batches = _batches(usable())
            parts = list(in_order(pool, lambda batch: trunk_features(model, batch[0])[: batch[1]], batches, 2 * lanes))
        return described, rejects, np.concatenate(parts) if parts else np.zeros((0, backbone.dim), np.float32)


def _row(image_id: str, number: int, view: View) -> dict[str, Any]:
    """A row of CACHED_VIEWS."""
    return {
        "image_id": image_id,
        "view": number,
        "recipe": view.recipe,
        "content_share": view.content_share,
        "adds_content": view.adds_content,
        "edits": view.edits,
    }


def _batches(views: Iterator[View]) -> Iterator[tuple[np.ndarray, int]]:
    """Pixels (TRUNK_BATCH, 3, size, size) uint8 of consecutive views, and how many there are; the last is padded."""
    while some := [view.pixels.transpose(1, 2, 0) for view in itertools.islice(views, TRUNK_BATCH)]:
        filled = np.zeros((TRUNK_BATCH, *some[0].shape), np.uint8)  # the order of memory that the trunk takes
        for place, pixels in enumerate(some):
            filled[place] = pixels
        yield filled.transpose(0, 3, 1, 2), len(some)


def _made(rows: range, maker: ViewMaker, kinds: Sequence[str], threads: int) -> Iterator[tuple[int, list[View] | str]]:
    """Each row with its views, or the reason why there are none; made in threads, a few rows ahead of the trunk."""
    left = iter(rows)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        ahead = [(row, pool.submit(_views_of, maker, row, kinds)) for row in itertools.islice(left, 4 * threads)]
        while ahead:
            row, future = ahead.pop(0)
            ahead += [(more, pool.submit(_views_of, maker, more, kinds)) for more in itertools.islice(left, 1)]
            yield row, future.result()


def _views_of(maker: ViewMaker, row: int, kinds: Sequence[str]) -> list[View] | str:
    try:
        return maker.views(row, kinds)
    except OSError as error:
        return f"cannot read: {error.strerror or error}"
    except ValueError as error:  # core.decode.DecodeError
        return str(error)


def trunk_features(model: Inference, pixels: np.ndarray) -> np.ndarray:
    """(n, 3, s, s) uint8 → (n, dim) float32 from the frozen trunk, on its device."""
    return to_host(model(torch.from_numpy(pixels).permute(0, 2, 3, 1)))


def _read(directory: Path, shards: list[Shard], views: int, mark: str) -> CachedViews:
    tables = [read_table(directory / f"{shard.name}.parquet") for shard in shards]
    table = pa.concat_tables(tables)
    features = np.concatenate([np.load(directory / f"{shard.name}.npy") for shard in shards])
    rejects = [row for shard in shards for row in read_table(directory / f"{shard.name}.rejects.parquet").to_pylist()]
    return CachedViews(
        table["image_id"].to_pylist()[::views],
        features.reshape(-1, views, features.shape[1]),
        table["content_share"].to_numpy().reshape(-1, views),
        np.array(table["adds_content"].to_pylist(), dtype=bool).reshape(-1, views),
        rejects,
        mark,
    )
