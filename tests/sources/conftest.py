"""A small corpus from drawn pictures, built once for all tests that use it, and drawn videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ndec_builder.demo.corpus.build import run
from ndec_builder.demo.corpus.settings import CorpusConfig
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
