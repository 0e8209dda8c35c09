"""Computes descriptors of the images in a table, in one process and in constant memory.

    readers: bytes of a batch   →   lanes: decode, and on a CPU describe   →   in order   (→ GPU, one batch behind)

On a CPU each lane is one thread that decodes a batch and runs the model on it: one lane decodes while another computes,
and no core waits for another core's part of a convolution. On a GPU, lanes only decode. The queues between the steps
are bounded. A batch is `batch_size` consecutive rows. The last batch is padded and a rejected image leaves its place
empty, so a descriptor depends only on its own image and the shape of the batch. Backbones that keep the shape of
pictures describe pictures of equal shape together, padded to a power of two.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.pictures.ingested import CANNOT_READ, read_image
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.engines.record import EngineUsed
from ndec_builder.embeddings.inference import Inference, to_host, use_bf16
from ndec_builder.embeddings.preprocess import to_pixels

__all__ = ["Extracted", "extract", "lane_count", "use_bf16"]

MAX_LANES = 16  # more threads would wait for Python's lock: use more workers instead
LOCAL_READERS = 2
REMOTE_READERS = 16  # a remote read spends nearly all its time waiting
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Extracted:
    """Descriptors of the readable images, in the order of the table."""

    ids: list[str]
    features: np.ndarray  # (n, dim) float32, not normalised
    rejects: list[dict[str, Any]]  # rows of the rejects table
    used: EngineUsed | None  # what computed them; None when there were none
    on_dark: int = 0  # light artwork on transparency that was put on a dark background


@dataclass(frozen=True)
class ImageBatch:
    """Consecutive rows of the table with their bytes, later their pixels, later their descriptors."""

    rows: list[dict[str, Any]]
    contents: list[Any]  # per row: bytes, pixels (h, w, 3) uint8, or text: the reason for rejecting it
    features: np.ndarray | None = None  # (good rows, dim)
    on_dark: int = 0  # pictures put on a dark background

    @property
    def good(self) -> list[int]:
        return [place for place, content in enumerate(self.contents) if not isinstance(content, str)]


def extract(
    backbone: Backbone,
    images: pa.Table,
    resolve: Callable[[str], str],
    *,
    batch_size: int = 8,
    bf16: str = "auto",
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Extracted:
    """Describe images (columns image_id, uri, optionally rotation, sha256) with a backbone, on the backbone's device.

    `resolve` turns a uri into a path or address that opens. An image that cannot be read, or has another sha256, is a
    row of `rejects`. `threads` lanes run in parallel (0: one per core). Each lane applies `finish` to its descriptors
    (n, dim), for example a whitening. Results do not depend on `threads`. Raises NdecError when a descriptor is not
    finite.
    """
    if batch_size < 1 or threads < 0:
        raise UsageError(f"batch_size must be at least 1 and threads at least 0; got {batch_size} and {threads}")
    ids, rejects, parts, on_dark = [], [], [], 0
    finish = finish or np.asarray
    lanes = lane_count(threads)
    model = Inference(backbone, bf16, lanes)
    work = DescribeBatch(model, batch_size, finish)
    with contextlib.closing(_describe_batches(work, images, resolve, lanes)) as batches:
        for batch in batches:
            ids += [batch.rows[place]["image_id"] for place in batch.good]
            rejects += [
                {"image_id": row["image_id"], "uri": row["uri"], "reason": content}
                for row, content in zip(batch.rows, batch.contents, strict=True)
                if isinstance(content, str)
            ]
            on_dark += batch.on_dark
            if batch.features is not None:
                parts.append(batch.features)
            if progress is not None:
                progress(len(batch.rows))
    none = finish(np.zeros((0, backbone.dim), np.float32))
    return Extracted(ids, np.concatenate(parts) if parts else none, rejects, model.used, on_dark)


def lane_count(threads: int) -> int:
    """The number of lanes for `threads`; 0 means one per core that this process may use, up to MAX_LANES."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or min(cores, MAX_LANES)


@dataclass(frozen=True)
class DescribeBatch:
    """Decodes and describes a batch whose bytes were read."""

    model: Inference
    batch_size: int
    finish: Callable[[np.ndarray], np.ndarray]

    def __call__(self, batch: ImageBatch) -> ImageBatch:
        """Decode and describe in one lane, on a CPU."""
        decoded = self.decode(batch)
        return self.gather(decoded, self.compute(decoded))

    def decode(self, batch: ImageBatch) -> ImageBatch:
        pairs = zip(batch.rows, batch.contents, strict=True)
        found = [_pixels(row, content, self.model.backbone) for row, content in pairs]
        return ImageBatch(
            batch.rows, [content for content, _ in found], on_dark=sum(is_on_dark for _, is_on_dark in found)
        )

    def compute(self, batch: ImageBatch) -> list[tuple[list[int], list[int], torch.Tensor]]:
        """Per group of pictures of one shape: rows in the batch, positions in the tensor, descriptors."""
        pinned = self.model.device.type == "cuda"
        return [
            (rows, places, self.model(pixels.pin_memory() if pinned else pixels))
            for rows, places, pixels in self._groups(batch)
        ]

    def gather(self, batch: ImageBatch, groups: list[tuple[list[int], list[int], torch.Tensor]]) -> ImageBatch:
        """The batch with its descriptors in row order, without the pixels."""
        contents = [content if isinstance(content, str) else None for content in batch.contents]
        if not groups:
            return ImageBatch(batch.rows, contents, on_dark=batch.on_dark)
        features: np.ndarray = np.zeros((len(batch.rows), self.model.backbone.dim), np.float32)
        for rows, places, descriptors in groups:
            features[rows] = to_host(descriptors)[places]
        features = features[batch.good, :]
        _check_finite(features, [batch.rows[row]["image_id"] for row in batch.good], self.model.backbone)
        return ImageBatch(batch.rows, contents, self.finish(features), batch.on_dark)

    def _groups(self, batch: ImageBatch) -> Iterator[tuple[list[int], list[int], torch.Tensor]]:
        backbone, good = self.model.backbone, batch.good
        if not good:
            return
        if not backbone.keep_shape:
            pixels = np.zeros((self.batch_size, backbone.size, backbone.size, 3), np.uint8)
            for row in good:
                pixels[row] = batch.contents[row]
            yield good, good, torch.from_numpy(pixels)
            return
        shapes: dict[tuple[int, ...], list[int]] = {}
        for row in good:
            shapes.setdefault(batch.contents[row].shape, []).append(row)
        for shape, rows in shapes.items():
            filled = np.zeros((1 << (len(rows) - 1).bit_length(), *shape), np.uint8)
            filled[: len(rows)] = [batch.contents[row] for row in rows]
            yield rows, list(range(len(rows))), torch.from_numpy(filled)


def _describe_batches(
    work: DescribeBatch, images: pa.Table, resolve: Callable[[str], str], lanes: int
) -> Generator[ImageBatch, None, None]:
    remote = any("://" in uri for uri in images["uri"].slice(0, 1).to_pylist())
    readers = REMOTE_READERS if remote else LOCAL_READERS
    starts = range(0, images.num_rows, work.batch_size)
    with (
        _one_torch_thread(),
        ThreadPoolExecutor(readers, "read") as reading,
        ThreadPoolExecutor(lanes, "lane", initializer=torch.set_num_threads, initargs=(1,)) as working,
    ):
        tables = (images.slice(start, work.batch_size).to_pylist() for start in starts)
        read = in_order(reading, lambda rows: _read(rows, resolve), tables, readers + lanes)
        if work.model.device.type == "cpu":
            yield from in_order(working, work, read, 2 * lanes)
        else:
            yield from one_behind(in_order(working, work.decode, read, 2 * lanes), work)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[_Result]:
    """Apply `work` to each item in the pool; yield results in item order, with at most `ahead` items pending."""
    waiting: deque[Future[_Result]] = deque()
    left = iter(items)
    try:
        for item in itertools.islice(left, ahead):
            waiting.append(pool.submit(work, item))
        while waiting:
            result = waiting.popleft().result()
            for item in itertools.islice(left, 1):
                waiting.append(pool.submit(work, item))
            yield result
    finally:
        for future in waiting:
            future.cancel()


def one_behind(decoded: Iterable[ImageBatch], work: DescribeBatch) -> Iterator[ImageBatch]:
    """Overlap on a GPU: it computes a batch while the previous one is fetched and the next one decoded."""
    before: Callable[[], ImageBatch] | None = None
    for batch in decoded:
        launched = functools.partial(work.gather, batch, work.compute(batch))
        if before is not None:
            yield before()
        before = launched
    if before is not None:
        yield before()


def _read(rows: list[dict[str, Any]], resolve: Callable[[str], str]) -> ImageBatch:
    return ImageBatch(rows, [_bytes(resolve(row["uri"]), row.get("sha256")) for row in rows])


def _bytes(uri: str, sha256: str | None) -> bytes | str:
    try:
        return read_image(uri, sha256)  # no time of a file tells: its folder may have been replaced, or a link to it
    except DecodeError as error:
        return str(error)
    except OSError as error:
        return f"{CANNOT_READ}{error.strerror or error}"
    except NdecError:  # of the run, not of this image: an outage, missing permissions
        raise
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # whatever one image does, the others go on
        return f"{CANNOT_READ}{type(error).__name__}: {error}"


def _pixels(row: dict[str, Any], content: bytes | str, backbone: Backbone) -> tuple[np.ndarray | str, bool]:
    """The pixels of one image or the reason for rejecting it, and whether it was put on a dark background."""
    if isinstance(content, str):
        return content, False
    try:
        image = decode(content, row.get("rotation") or 0, target=backbone.target)
    except DecodeError as error:
        return str(error), False
    pixels = to_pixels(image, backbone.target(*image.size), backbone.interpolation)
    return pixels, image.info.get("flattened_on") == "dark"


def _check_finite(features: np.ndarray, names: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise NdecError(
            f"the model {backbone.name} computed a descriptor with NaN or infinity for the image "
            f"{names[int(bad[0])]!r} and {len(bad) - 1} more in its batch; are its weights damaged? Try --bf16 off"
        )


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Set the number of torch threads to 1 while lanes run: new threads inherit it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
