"""Embed 200 files of the newer picture formats and compare their pixels with the libraries' own decode.

pip install tifffile==2026.3.3 imagecodecs==2026.3.6         to write the DNG files
python benchmarks/picture_formats.py                         writes benchmarks/results/picture_formats.md
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers its format
import rawpy
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from data.make_dng import write_dng  # noqa: E402

from ndec_builder.core.decode import decode  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from ndec_builder.embeddings.backbones import load_backbone  # noqa: E402
from ndec_builder.embeddings.extract import extract  # noqa: E402
from ndec_builder.sources.ingest import run as ingest  # noqa: E402
from ndec_builder.sources.settings import IngestConfig  # noqa: E402
from support.odd_pictures import orientation  # noqa: E402
from support.pictures import scene  # noqa: E402

SIZE, EACH, ROUNDS = (1600, 1200), 40, 6
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("jpg", {"quality": 90}),
    "HEIF": ("heic", {"quality": 80, "enc_params": {"preset": "ultrafast"}}),
    "AVIF": ("avif", {"quality": 75, "speed": 10}),
    "JXL": ("jxl", {"quality": 90, "effort": 3}),
    "MPO": ("mpo", {"quality": 90, "save_all": True}),
    "RAW": ("dng", {}),
}


def write(folder: Path, name: str, number: int) -> Path:
    """One file. Every other one has orientation 6 in its EXIF; every DNG has it; JPEG XL has its own orientation."""
    ending, options = FORMATS[name]
    path = folder / f"{name.lower()}-{number:03d}.{ending}"
    if name == "RAW":
        write_dng(path, number, SIZE)
        return path
    turned = {} if name == "JXL" or number % 2 else {"exif": orientation(6).tobytes()}
    more = {"append_images": [scene(number + 1, (320, 240))]} if name == "MPO" else {}
    scene(number, SIZE).save(path, name, **options, **turned, **more)
    return path


def own_decode(path: Path) -> np.ndarray:
    """What the format's library makes of a file, upright."""
    if path.suffix == ".dng":
        with rawpy.imread(str(path)) as raw:
            assert raw.sizes.flip == 6  # 90 degrees clockwise
            preview = Image.open(io.BytesIO(raw.extract_thumb().data))
            return np.asarray(preview.transpose(Image.Transpose.ROTATE_270).convert("RGB"), float)
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), float)


def cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and CPU seconds of this process and its children."""
    before = sum(os.times()[:4])
    return work(), sum(os.times()[:4]) - before


def gap(path: Path) -> float:
    mine, theirs = np.asarray(decode(path.read_bytes()), float), own_decode(path)
    assert mine.shape == theirs.shape, path
    return float(np.abs(mine - theirs).max())


class Sample:
    """The files of one format, ingested."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, photos = name, folder / "photos"
        photos.mkdir(parents=True)
        self.paths = [write(photos, name, number) for number in range(EACH)]
        ingest(IngestConfig(folder / "bench", "reference", photos))
        self.workspace = Workspace(folder / "bench")
        self.images = self.workspace.read_images("reference")
        assert set(self.images["format"].to_pylist()) == {"JPEG" if name == "MPO" else name}
        self.difference = max(gap(path) for path in self.paths)
        self.embedded, self.decoding, self.embedding = 0, float("inf"), float("inf")

    def measure(self, backbone: Any) -> None:
        """Keep the least CPU time so far of decoding and of embedding."""
        _, spent = cpu(lambda: [decode(path.read_bytes()) for path in self.paths])
        self.decoding = min(self.decoding, spent)
        found, spent = cpu(lambda: extract(backbone, self.images, self.workspace.resolve, bf16="off"))
        self.embedded, self.embedding = len(found.features), min(self.embedding, spent)

    def row(self) -> str:
        sizes = zip(self.images["width"].to_pylist(), self.images["height"].to_pylist(), strict=True)
        shapes = " and ".join(f"{width}×{height}" for width, height in sorted(set(sizes), reverse=True))
        size = sum(path.stat().st_size for path in self.paths) / EACH
        return (
            f"| {self.name} | {self.embedded} of {EACH} | {shapes} | {self.difference:.0f} | {size / 1000:.0f} kB | "
            f"{1000 * self.decoding / EACH:.0f} ms | {1000 * self.embedding / EACH:.0f} ms |"
        )


def main() -> None:
    pillow_heif.register_heif_opener()
    backbone = load_backbone("efficientnet-lite0")
    with tempfile.TemporaryDirectory() as folder:
        samples = [Sample(name, Path(folder) / name) for name in FORMATS]
        for _ in range(ROUNDS):  # one after the other, so that other work on the machine slows all of them
            for sample in samples:
                sample.measure(backbone)
        rows = [sample.row() for sample in samples]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    flags = Path("/proc/cpuinfo").read_text().split()
    machine = " ".join(flag for flag in ("avx2", "avx512f", "avx512_bf16") if flag in flags)
    packages = ", ".join(f"{name} {version(name)}" for name in ("pillow", "pillow_heif", "pillow-jxl-plugin", "rawpy"))
    lines = [
        "# Newer picture formats", "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · {machine} · {packages} · "
        "`python benchmarks/picture_formats.py`", "",
        f"{EACH} files of each format, {SIZE[0]}×{SIZE[1]} px, every other one turned by 90° in EXIF; JPEG XL has its "
        "own orientation, and each DNG is turned. The DNG files are not from a camera: tifffile wrote them, with a "
        "JPEG preview of the full size. Largest difference: grey levels between ndec's pixels and the upright decode "
        "of the format's own library, over all files. CPU time per image, all "
        f"threads, the least of {ROUNDS} runs: decoding at full size, and "
        "`ndec embed` (decoding, at a reduced size where the format allows it, and efficientnet-lite0 in float32).", "",
        "| format | embedded | width × height, upright | largest difference | file | decode | embed |",
        "|---|---|---|---|---|---|---|", *rows, "",
    ]  # fmt: skip
    (ROOT / "benchmarks" / "results" / "picture_formats.md").write_text("\n".join(lines), "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
