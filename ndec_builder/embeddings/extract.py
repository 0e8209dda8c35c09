"""Images of a table → descriptors, in this process and in constant memory.

Image i always sits at place i mod batch_size of batch i div batch_size, the last batch is filled up, and a rejected
image leaves its place empty: so a descriptor depends on nothing but its own image and the shape of the batch.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_uri
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.preprocess import normalise, to_array


@dataclass(frozen=True)
class Extracted:
    """Descriptors of the images that could be read, in the order of the table."""

    ids: list[str]
    features: np.ndarray  # (n, dim) float32, not normalised
    rejects: list[dict[str, Any]]  # rows of the rejects table


def extract(
    backbone: Backbone,
    images: pa.Table,
    resolve: Callable[[str], str],
    *,
    batch_size: int = 32,
    bf16: str = "auto",
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Extracted:
    """Describe images (columns image_id, uri and perhaps rotation) with a backbone, on the device it lies on.

    `resolve` turns a uri into something that opens. An image that cannot be read becomes a row of `rejects`; the number
    of torch threads is set to `threads` and put back. Raises NdecError when a descriptor is not finite.
    """
    if batch_size < 1 or threads < 1:
        raise UsageError(f"batch_size and threads must be at least 1; got {batch_size} and {threads}")
    ids, rejects, parts = [], [], []
    device = next(iter(backbone.state_dict().values())).device
    with _torch_threads(threads), autocast(backbone, bf16, device) as precision:
        for rows, pictures in _decoded(images, resolve, backbone.size, batch_size, threads):
            batch = np.zeros((batch_size, 3, backbone.size, backbone.size), np.uint8)
            good = [place for place, picture in enumerate(pictures) if not isinstance(picture, str)]
            for place in good:
                batch[place] = pictures[place]
            rejects += [
                {"image_id": row["image_id"], "uri": row["uri"], "reason": picture}
                for row, picture in zip(rows, pictures, strict=True)
                if isinstance(picture, str)
            ]
            if good:
                features = _describe(backbone, batch, device, precision)[good]
                names = [rows[place]["image_id"] for place in good]
                _check_finite(features, names, backbone)
                ids += names
                parts.append(features)
            if progress is not None:
                progress(len(rows))
    features = np.concatenate(parts) if parts else np.zeros((0, backbone.dim), np.float32)
    return Extracted(ids, features, rejects)


def use_bf16(setting: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: `auto` asks the hardware (AMX or AVX512-BF16 on a CPU). Raises UsageError."""
    if setting not in ("auto", "on", "off"):
        raise UsageError(f"bf16 = {setting!r} is unknown; it is one of auto, on, off")
    if setting != "auto":
        return setting == "on"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public question for this in all supported versions; an absent answer means plain float32
    answers = (getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(answers)


@contextlib.contextmanager
def autocast(backbone: Backbone, bf16: str, device: torch.device) -> Iterator[torch.autocast]:
    """The precision context in which the trunk runs; inference mode around it."""
    enabled = use_bf16(bf16, device) and backbone.autocast
    with torch.inference_mode():
        yield torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _describe(backbone: Backbone, batch: np.ndarray, device: torch.device, precision: torch.autocast) -> np.ndarray:
    images = normalise(torch.from_numpy(batch).to(device), backbone)
    with precision:
        descriptors: torch.Tensor = backbone(images)
    return descriptors.float().cpu().numpy()


def _decoded(
    images: pa.Table, resolve: Callable[[str], str], size: int, batch_size: int, threads: int
) -> Iterator[tuple[list[dict[str, Any]], list[np.ndarray | str]]]:
    """Yield (rows, pictures) a batch; the next batch is decoded in threads while the model works on this one."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: tuple[list[dict[str, Any]], list[concurrent.futures.Future[np.ndarray | str]]] | None = None
        for start in range(0, images.num_rows, batch_size):
            rows = images.slice(start, batch_size).to_pylist()
            futures = [pool.submit(_picture, row, resolve, size) for row in rows]
            if waiting is not None:
                yield waiting[0], [future.result() for future in waiting[1]]
            waiting = rows, futures
        if waiting is not None:
            yield waiting[0], [future.result() for future in waiting[1]]


def _picture(row: dict[str, Any], resolve: Callable[[str], str], size: int) -> np.ndarray | str:
    """The array of one image, or the reason why there is none."""
    try:
        return to_array(decode(read_uri(resolve(row["uri"])), row.get("rotation") or 0), size)
    except DecodeError as error:
        return str(error)
    except OSError as error:
        return f"cannot read: {error.strerror or error}"


def _check_finite(features: np.ndarray, names: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise NdecError(
            f"the model {backbone.name} gave a descriptor that is not finite (NaN or infinite) for the image "
            f"{names[int(bad[0])]!r} and {len(bad) - 1} more of its batch; are its weights damaged? Try --bf16 off"
        )


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
