"""Frames of one shot, some time apart: true hard negatives, since neither can be made from the other one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ndec_builder.core.errors import NdecError

FRAME_INTERVAL = 0.8  # seconds between candidate frames
MOST = 8  # frames per shot: a long static scene must not fill the corpus
_CUT_COLOURS, _CUT_GREY = (
    0.45,
    38.0,
)  # a cut: this share of the colour histogram or this many grey levels change between frames
_DIFFERS, _DIFFERENT_SHARE = 24, 0.04  # two frames differ visibly: 4 % of a 64×64 picture changes by 24 grey levels


@dataclass(frozen=True)
class Frame:
    """`shot` counts from 0; `seconds` from the start of the video."""

    shot: int
    seconds: float
    image: Image.Image


def read_frames(path: Path) -> list[Frame]:
    """Return frames at least FRAME_INTERVAL apart within each shot, all visibly different.

    At most MOST frames per shot, spread over it, none of them black. Raises NdecError when no frame can be decoded.
    """
    import cv2  # heavy: kept out of `ndec --help`

    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    shots: list[list[Frame]] = []
    previous: tuple[np.ndarray, np.ndarray] | None = None
    index = -1
    try:
        while True:
            index += 1
            more, pixels = capture.read()
            if not more:
                break
            small = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
            current = _colours(small), small.astype(np.float32).mean(axis=2)
            if previous is None or is_cut(previous, current):
                shots.append([])
            previous = current
            seconds, shot = index / rate, shots[-1]
            if (shot and seconds - shot[-1].seconds < FRAME_INTERVAL) or current[1].mean() < 8:
                continue
            shot.append(Frame(len(shots) - 1, seconds, Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))))
    finally:
        capture.release()
    if not shots:
        raise NdecError(f"{path} has no frame that can be decoded; delete it and fetch its package again")
    return [frame for shot in shots for frame in _spread(_distinct(shot))]


def is_cut(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether a new shot starts between two frames, each given as (colour histogram summing to 1, 64×64 grey)."""
    colours = 0.5 * float(np.abs(before[0] - after[0]).sum())
    return colours > _CUT_COLOURS or float(np.abs(before[1] - after[1]).mean()) > _CUT_GREY


def glance(image: Image.Image) -> np.ndarray:
    """(64, 64) int16: the grey picture that two frames are compared by. Making it costs more than the comparison."""
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX), dtype=np.int16)


def visibly_different(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether enough changed between two `glance`s for a person to see at once that these are two moments."""
    return float((np.abs(first - second) > _DIFFERS).mean()) >= _DIFFERENT_SHARE


def _distinct(frames: list[Frame]) -> list[Frame]:
    kept: list[Frame] = []
    glances: list[np.ndarray] = []
    for frame in frames:
        own = glance(frame.image)
        if all(visibly_different(own, other) for other in glances):
            kept.append(frame)
            glances.append(own)
    return kept


def _spread(frames: list[Frame]) -> list[Frame]:
    if len(frames) <= MOST:
        return frames
    return [frames[int(i)] for i in np.linspace(0, len(frames) - 1, MOST).round()]


def _colours(pixels: np.ndarray) -> np.ndarray:
    """8×8×8 colour histogram of (h, w, 3) uint8, summing to 1."""
    cells = (pixels >> 5).astype(np.int64)
    codes = (cells[..., 0] << 6) | (cells[..., 1] << 3) | cells[..., 2]
    return np.bincount(codes.ravel(), minlength=512) / codes.size
