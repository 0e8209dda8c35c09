"""A small corpus from drawn pictures, built once for all tests that use it, and drawn videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ndec_builder.demo.corpus.build import run
from ndec_builder.demo.corpus.settings import CorpusConfig
from support.ingesting import picture
from support.pictures import scene, write_scenes


@pytest.fixture(scope="session")
def own_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_scenes(folder, 48)
    return folder


@pytest.fixture(scope="session")
def corpus(own_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("corpus")
    run(CorpusConfig(workspace, images=own_photos, workers=2))
    return workspace


@pytest.fixture(scope="session")
def write_video() -> Callable[..., None]:
    """Writes a video at 10 frames a second, one shot a seed (None: black): a block crosses a scene."""

    def write(path: Path, seeds: Sequence[int | None], frames: int | tuple[int, ...] = 60, step: int = 2) -> None:
        counts = (frames,) * len(seeds) if isinstance(frames, int) else frames
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (192, 144))
        for seed, count in zip(seeds, counts, strict=True):
            for index in range(count):
                image = Image.new("RGB", (192, 144)) if seed is None else scene(seed)
                if seed is not None:
                    image.paste((255, 255, 0), (index * step, 40, index * step + 60, 110))
                writer.write(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
        writer.release()

    return write


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A source folder with pictures, and pictures and a pipe that are none of its business."""
    source, private = tmp_path / "source", tmp_path / "private"
    (source / "below").mkdir(parents=True)
    private.mkdir()
    for number, path in enumerate(
        [source / "a.jpg", source / "below" / "b.jpg", source / "c::d.jpg", source / "e#f.jpg"]
    ):
        path.write_bytes(picture(number))
    for name in ("secret.jpg", "secret2.jpg"):
        (private / name).write_bytes(picture(9))
    (source / "link.jpg").symlink_to(private / "secret.jpg")
    (source / "inside.jpg").symlink_to(source / "a.jpg")
    (source / "out").symlink_to(private)
    (source / "loop.jpg").symlink_to(source / "loop.jpg")
    (source / "gone.jpg").symlink_to(source / "nothing.jpg")
    os.mkfifo(source / "pipe.jpg")
    (source / "zero.jpg").symlink_to("/dev/zero")
    (source / "container.bin").write_bytes(b"\0" * 10 + picture(0))
    pq.write_table(pa.table({"image": [picture(3)]}), private / "other.parquet")
    return source
