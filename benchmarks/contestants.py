"""The contestants of `embedding.py`: each is a process that waits for a line, embeds all pictures once and reports."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.extract import DescribeBatch, ImageBatch, extract, lane_count
from ndec_builder.embeddings.inference import Inference, use_bf16
from ndec_builder.embeddings.parts import write_part
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.whitening import Whitening

MODEL, SIDE, LOOP_BATCHES = "efficientnet-lite0", 224, (8, 32)
Run = Callable[[], dict[str, float]]
DEFAULTS = EmbedConfig(Path(), "pool")
warnings.filterwarnings("ignore")


def table_of(folder: Path) -> pa.Table:
    paths = sorted(folder.glob("*.jpg"))
    return pa.table({"image_id": [path.stem for path in paths], "uri": [str(path) for path in paths]})


def ndec(folder: Path) -> Run:
    """What a worker of `ndec embed` does with a shard: read, decode, describe, whiten, write; its default settings."""
    images, backbone = table_of(folder), load_backbone(MODEL)
    rng = np.random.default_rng(0)
    whitening = Whitening.fit(rng.standard_normal((400, backbone.dim)).astype(np.float32), 256, 0.1)
    threads = min(DEFAULTS.threads, lane_count(0))

    def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as temporary:
            started = time.perf_counter()
            for number, start in enumerate(range(0, images.num_rows, DEFAULTS.shard_size)):
                extracted = extract(
                    backbone,
                    images.slice(start, DEFAULTS.shard_size),
                    str,
                    batch_size=DEFAULTS.batch_size,
                    threads=threads,
                    finish=whitening.apply,
                )
                write_part(Path(temporary), f"shard-{number}", extracted.ids, extracted.features)
            return {"images_per_second": images.num_rows / (time.perf_counter() - started)}

    return run


def alone(folder: Path) -> Run:
    """Core-seconds an image of decoding alone and of the model alone, in as many lanes as `ndec` runs."""
    backbone = load_backbone(MODEL)
    work = DescribeBatch(Inference(backbone, "auto"), DEFAULTS.batch_size, np.asarray)
    paths = sorted(folder.glob("*.jpg"))
    step = DEFAULTS.batch_size
    batches = [
        ImageBatch(
            [{"image_id": path.stem} for path in paths[i : i + step]],
            [path.read_bytes() for path in paths[i : i + step]],
        )
        for i in range(0, len(paths), step)
    ]
    torch.set_num_threads(1)
    lanes = lane_count(0)
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(1,))

    def run() -> dict[str, float]:
        started = time.process_time()
        decoded = list(pool.map(work.decode, batches))
        between = time.process_time()
        list(pool.map(lambda batch: work.gather(batch, work.compute(batch)), decoded))
        ended = time.process_time()
        return {
            "decode_seconds": (between - started) / len(paths),
            "model_seconds": (ended - between) / len(paths),
        }

    return run


class Photos(torch.utils.data.Dataset[torch.Tensor]):
    """The plain loop's reader: Pillow, resized, to float, normalised."""

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        self.paths, self.transform = sorted(folder.glob("*.jpg")), transform_of(backbone)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image: torch.Tensor = self.transform(Image.open(self.paths[index]))
        return image


def transform_of(backbone: Backbone) -> Callable[[Image.Image], torch.Tensor]:
    from torchvision import transforms

    steps = [
        transforms.Lambda(_rgb),
        transforms.Resize((SIDE, SIDE), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize(backbone.mean, backbone.std),
    ]
    composed: Callable[[Image.Image], torch.Tensor] = transforms.Compose(steps)
    return composed


def _rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def loop(
    folder: Path, fast: bool, reader: Callable[[Path, Backbone, int, int], Iterator[torch.Tensor]] | None = None
) -> Run:
    """Batches of a DataLoader through the package's own model; their size and the reader processes are tried out."""
    backbone = load_backbone(MODEL).to(memory_format=torch.channels_last if fast else torch.contiguous_format)
    half = fast and use_bf16("auto", torch.device("cpu"))

    def batches(batch: int, workers: int) -> Iterator[torch.Tensor]:
        if reader is not None:
            return reader(folder, backbone, batch, workers)
        return iter(torch.utils.data.DataLoader(Photos(folder, backbone), batch, num_workers=workers))

    def once(batch: int, workers: int) -> dict[str, float]:
        started, count = time.perf_counter(), 0
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            for images in batches(batch, workers):
                if fast:
                    images = images.contiguous(memory_format=torch.channels_last)
                backbone(images).float().numpy()
                count += len(images)
        return {"images_per_second": count / (time.perf_counter() - started)}

    ways = itertools.product(LOOP_BATCHES, {1, len(os.sched_getaffinity(0))})
    best = max(ways, key=lambda way: once(*way)["images_per_second"])
    return lambda: once(*best)


def clip_retrieval_reader(peers: Path) -> Callable[[Path, Backbone, int, int], Iterator[torch.Tensor]]:
    """clip-retrieval's FilesReader, loaded from its file alone: the package itself pins NumPy below 2."""
    path = peers / "clip_retrieval" / "clip_inference" / "reader.py"
    spec = importlib.util.spec_from_file_location("clip_retrieval_reader", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def read(folder: Path, backbone: Backbone, batch: int, workers: int) -> Iterator[torch.Tensor]:
        reader = module.FilesReader(
            lambda keys: keys, transform_of(backbone), None, str(folder), batch, workers, enable_text=False
        )
        return (batch["image_tensor"] for batch in reader)

    return read


def decoders(folder: Path) -> Run:
    """Core milliseconds of each decoder that is installed, from bytes to pixels."""
    import cv2
    from torchvision import io as vision

    from ndec_builder.core.decode import decode
    from ndec_builder.embeddings.preprocess import square, to_pixels

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    jpegs = [path.read_bytes() for path in itertools.islice(sorted(folder.glob("*.jpg")), 24)]
    pngs, webps = ([_as(data, kind) for data in jpegs[:6]] for kind in ("PNG", "WEBP"))
    size, target = (SIDE, SIDE), square(SIDE)

    def small(image: Image.Image) -> Image.Image:
        return image.resize(size, Image.Resampling.BICUBIC)

    def small_tensor(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(image[None], size, mode="bicubic", antialias=True)

    def opened(data: bytes, draft: bool = False) -> Image.Image:
        image = Image.open(io.BytesIO(data))
        if draft:
            image.draft(None, size)
        return image.convert("RGB")

    def tensor(data: bytes) -> torch.Tensor:
        raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        decoded: torch.Tensor = vision.decode_image(raw, vision.ImageReadMode.RGB)
        return decoded

    def array(data: bytes, flag: int) -> Any:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)

    full, half = cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2
    ways: dict[str, tuple[list[bytes], Callable[[bytes], Any]]] = {
        "JPEG whole: Pillow": (jpegs, lambda data: np.asarray(opened(data))),
        "JPEG whole: torchvision": (jpegs, tensor),
        "JPEG whole: OpenCV": (jpegs, lambda data: array(data, full)),
        "JPEG scaled down: Pillow draft": (jpegs, lambda data: np.asarray(opened(data, True))),
        "JPEG scaled down: OpenCV": (jpegs, lambda data: array(data, half)),
        "JPEG to 224 px: Pillow, Pillow's resize": (jpegs, lambda data: small(opened(data))),
        "JPEG to 224 px: Pillow draft, Pillow's resize": (
            jpegs, lambda data: small(opened(data, True))
        ),
        "JPEG to 224 px: torchvision, torch's resize": (
            jpegs, lambda data: small_tensor(tensor(data))
        ),
        "JPEG to 224 px: **ndec** (Pillow draft, torch's resize, checks)": (
            jpegs, lambda data: to_pixels(decode(data, target=target), size)
        ),
        "PNG whole: Pillow": (pngs, lambda data: np.asarray(opened(data))),
        "PNG whole: OpenCV": (pngs, lambda data: array(data, full)),
        "PNG whole: torchvision": (pngs, tensor),
        "WebP whole: Pillow": (webps, lambda data: np.asarray(opened(data))),
        "WebP whole: OpenCV": (webps, lambda data: array(data, full)),
        "WebP whole: torchvision": (webps, tensor),
    }  # fmt: skip
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        reference = np.asarray(opened(jpegs[0]))
        assert np.array_equal(simplejpeg.decode_jpeg(jpegs[0]), reference)
        ways["JPEG whole: simplejpeg"] = jpegs, simplejpeg.decode_jpeg
        ways["JPEG scaled down: simplejpeg"] = (
            jpegs, lambda data: simplejpeg.decode_jpeg(data, min_height=SIDE, min_width=SIDE)
        )  # fmt: skip
    if importlib.util.find_spec("pyvips"):
        import pyvips

        ways["JPEG to 224 px: pyvips thumbnail"] = (
            jpegs, lambda data: pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE, size="force").numpy()
        )  # fmt: skip
    assert np.array_equal(np.asarray(opened(jpegs[0])), tensor(jpegs[0]).permute(1, 2, 0).numpy())
    assert np.array_equal(np.asarray(opened(jpegs[0])), array(jpegs[0], full)[:, :, ::-1])

    def run() -> dict[str, float]:
        times = {}
        for label, (files, way) in sorted(ways.items()):
            started = time.process_time()
            for data in files:
                way(data)
            times[label] = (time.process_time() - started) / len(files) * 1000
        return times

    return run


def _as(data: bytes, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, format, **({"quality": 90} if format == "WEBP" else {}))
    return buffer.getvalue()


def main() -> None:
    name, folder, peers = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if peers:
        sys.path.append(peers)  # behind everything else: what is installed wins
    makers: dict[str, Callable[[], Run]] = {
        "ndec": lambda: ndec(folder),
        "alone": lambda: alone(folder),
        "plain": lambda: loop(folder, fast=False),
        "bf16": lambda: loop(folder, fast=True),
        "clip-retrieval": lambda: loop(folder, fast=True, reader=clip_retrieval_reader(Path(peers))),
        "decoders": lambda: decoders(folder),
    }
    out, sys.stdout = sys.stdout, sys.stderr
    run: Run | None = None
    for _ in sys.stdin:
        if run is None:  # loaded at the first call, so that contestants warm up one after the other
            run = makers[name]()
            run()
        print(json.dumps(run()), file=out, flush=True)


if __name__ == "__main__":
    main()
