"""Images of a table → descriptors, in this process and in constant memory.

    readers: bytes of a batch   →   lanes: decode, and on a CPU describe   →   in order   (→ GPU, one batch behind)

On a CPU every lane is one thread that decodes a batch and runs the model on it, so while one lane decodes another
computes, all cores are busy and none waits for another's part of a convolution. On a GPU lanes decode only. The queues
between are bounded. Batches are `batch_size` consecutive rows; the last one is filled up and a rejected image leaves
its place empty: so a descriptor depends on nothing but its own image and the shape of the batch. Where pictures keep
their shape, those of equal shape in a batch are described together, filled up to a power of two.
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
from ndec_builder.core.storage import read_uri
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.inference import Inference, to_host, use_bf16
from ndec_builder.embeddings.preprocess import to_pixels

__all__ = ["Extracted", "extract", "lanes_for", "use_bf16"]

MAX_LANES = 16  # more threads of one process would queue for Python's lock: use more workers
LOCAL_READERS = 2
REMOTE_READERS = 16  # a remote read waits for the network nearly all its time
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Extracted:
    """Descriptors of the images that could be read, in the order of the table."""

    ids: list[str]
    features: np.ndarray  # (n, dim) float32, not normalised
    rejects: list[dict[str, Any]]  # rows of the rejects table


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of the table and what became of them: bytes, then pixels, then descriptors, or a reason."""

    rows: list[dict[str, Any]]
    contents: list[Any]  # for each row: bytes, pixels (h, w, 3) uint8 or, as text, the reason why there are none
    features: np.ndarray | None = None  # (good rows, dim)

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
    """Describe images (columns image_id, uri and perhaps rotation) with a backbone, on the device it lies on.

    `resolve` turns a uri into something that opens. An image that cannot be read becomes a row of `rejects`. `threads`
    lanes run side by side, 0: one a core; `finish` is applied to descriptors (n, dim) in the lanes, a whitening for
    one. Neither changes a bit. Raises NdecError when a descriptor is not finite.
    """
    if batch_size < 1 or threads < 0:
        raise UsageError(f"batch_size must be at least 1 and threads at least 0; got {batch_size} and {threads}")
    ids, rejects, parts = [], [], []
    finish = finish or np.asarray
    work = Describing(Inference(backbone, bf16), batch_size, finish)
    with contextlib.closing(_described(work, images, resolve, lanes_for(threads))) as batches:
        for batch in batches:
            ids += [batch.rows[place]["image_id"] for place in batch.good]
            rejects += [
                {"image_id": row["image_id"], "uri": row["uri"], "reason": content}
                for row, content in zip(batch.rows, batch.contents, strict=True)
                if isinstance(content, str)
            ]
            if batch.features is not None:
                parts.append(batch.features)
            if progress is not None:
                progress(len(batch.rows))
    none = finish(np.zeros((0, backbone.dim), np.float32))
    return Extracted(ids, np.concatenate(parts) if parts else none, rejects)


def lanes_for(threads: int) -> int:
    """How many lanes `threads` asks for: 0 means one a core that this process may use, up to MAX_LANES."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or min(cores, MAX_LANES)


@dataclass(frozen=True)
class Describing:
    """What is done to a batch whose bytes were read."""

    model: Inference
    batch_size: int
    finish: Callable[[np.ndarray], np.ndarray]

    def __call__(self, batch: Batch) -> Batch:
        """On a CPU: all of it, in one lane."""
        decoded = self.decode(batch)
        return self.gathered(decoded, self.computed(decoded))

    def decode(self, batch: Batch) -> Batch:
        pairs = zip(batch.rows, batch.contents, strict=True)
        return Batch(batch.rows, [_pixels(row, content, self.model.backbone) for row, content in pairs])

    def computed(self, batch: Batch) -> list[tuple[list[int], list[int], torch.Tensor]]:
        """Groups of pictures of one shape: their rows in the batch, their places in the tensor, the descriptors."""
        pinned = self.model.device.type == "cuda"
        return [
            (rows, places, self.model(pixels.pin_memory() if pinned else pixels))
            for rows, places, pixels in self._groups(batch)
        ]

    def gathered(self, batch: Batch, groups: list[tuple[list[int], list[int], torch.Tensor]]) -> Batch:
        """The batch with its descriptors, in the order of its rows; the pixels are let go."""
        contents = [content if isinstance(content, str) else None for content in batch.contents]
        if not groups:
            return Batch(batch.rows, contents)
        features: np.ndarray = np.zeros((len(batch.rows), self.model.backbone.dim), np.float32)
        for rows, places, descriptors in groups:
            features[rows] = to_host(descriptors)[places]
        features = features[batch.good, :]
        _check_finite(features, [batch.rows[row]["image_id"] for row in batch.good], self.model.backbone)
        return Batch(batch.rows, contents, self.finish(features))

    def _groups(self, batch: Batch) -> Iterator[tuple[list[int], list[int], torch.Tensor]]:
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


def _described(
    work: Describing, images: pa.Table, resolve: Callable[[str], str], lanes: int
) -> Generator[Batch, None, None]:
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
    pool: ThreadPoolExecutor, work: Callable[[Given], Made], items: Iterable[Given], ahead: int
) -> Iterator[Made]:
    """`work` on each item in the pool's threads, results in the order of the items, at most `ahead` of them waiting."""
    waiting: deque[Future[Made]] = deque()
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


def one_behind(decoded: Iterable[Batch], work: Describing) -> Iterator[Batch]:
    """On a GPU: while it computes a batch, the one before is fetched and the next one decoded."""
    before: Callable[[], Batch] | None = None
    for batch in decoded:
        launched = functools.partial(work.gathered, batch, work.computed(batch))
        if before is not None:
            yield before()
        before = launched
    if before is not None:
        yield before()


def _read(rows: list[dict[str, Any]], resolve: Callable[[str], str]) -> Batch:
    return Batch(rows, [_bytes(row["uri"], resolve) for row in rows])


def _bytes(uri: str, resolve: Callable[[str], str]) -> bytes | str:
    try:
        return read_uri(resolve(uri))
    except OSError as error:
        return f"cannot read: {error.strerror or error}"


def _pixels(row: dict[str, Any], content: bytes | str, backbone: Backbone) -> np.ndarray | str:
    """The pixels of one image, or the reason why there are none."""
    if isinstance(content, str):
        return content
    try:
        image = decode(content, row.get("rotation") or 0, target=backbone.target)
    except DecodeError as error:
        return str(error)
    return to_pixels(image, backbone.target(*image.size))


def _check_finite(features: np.ndarray, names: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise NdecError(
            f"the model {backbone.name} gave a descriptor that is not finite (NaN or infinite) for the image "
            f"{names[int(bad[0])]!r} and {len(bad) - 1} more of its batch; are its weights damaged? Try --bf16 off"
        )


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """New threads take over the process's number of torch threads: 1 while lanes run, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
