"""Describes pictures for geometry: small, grey, with SIFT keypoints, which can also be mirrored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

KEYPOINT_SIDE = 320  # px, longest side: alignment works at this size
FEW_KEYPOINTS = 50  # with fewer at half this size, they are searched again at the full size
MAX_KEYPOINTS = 500  # the strongest ones
_LAYERS = 3  # per octave, SIFT's default
_QUICK_LAYERS = 2  # of `describe_quickly`: a third faster, pre-labels are as good
_QUICK_SHARE = 0.45  # of the working side: 144 px
_MIN_SIDE = 16  # px; smaller pictures have no octave
_CONTRAST = 0.02  # half the default of SIFT: blurred and dark copies keep their points


def _mirror_order() -> np.ndarray:
    """The order of the 128 SIFT numbers in the mirrored picture: (128,) int64.

    The frame of a keypoint follows its main direction. Mirroring reverses the 4 rows across that direction and negates
    the 8 directions; the 4 columns along it stay.
    """
    row, column, direction = np.meshgrid(np.arange(4), np.arange(4), np.arange(8), indexing="ij")
    return ((3 - row) * 4 + column).ravel() * 8 + ((8 - direction) % 8).ravel()


MIRROR_ORDER = _mirror_order()
_NO_KEYPOINTS = np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)


@dataclass(frozen=True, eq=False)
class DescribedPicture:
    """A picture at working size. `to_working` maps pixels of the given array to pixels of `rgb` and `grey`."""

    rgb: np.ndarray  # (h, w, 3) uint8
    grey: np.ndarray  # (h, w) uint8
    points: np.ndarray  # (n, 2) float32: x, y in working pixels, pixel centres at whole numbers
    descriptors: np.ndarray  # (n, 128) float32 whole numbers 0..255: their dots are exact in any order
    to_working: np.ndarray  # (3, 3) float64

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in working pixels."""
        return self.grey.shape[1], self.grey.shape[0]

    @cached_property
    def finer(self) -> DescribedPicture:
        """The picture with the keypoints of its full working size, found when they are first needed."""
        points, descriptors = _keypoints(self.grey, max(self.size), _QUICK_LAYERS)
        return replace(self, points=points, descriptors=descriptors)

    def mirrored(self) -> DescribedPicture:
        """The picture mirrored left to right, without detecting keypoints again."""
        points, descriptors = self.mirrored_keypoints()
        flip = np.array([[-1.0, 0, self.size[0] - 1], [0, 1, 0], [0, 0, 1]])
        rgb, grey = np.ascontiguousarray(self.rgb[:, ::-1]), np.ascontiguousarray(self.grey[:, ::-1])
        return DescribedPicture(rgb, grey, points, descriptors, flip @ self.to_working)

    def mirrored_keypoints(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, 2) and descriptors (n, 128) of the mirrored picture."""
        points = self.points.copy()
        points[:, 0] = self.size[0] - 1 - points[:, 0]
        return points, self.descriptors[:, MIRROR_ORDER]


def _sift(layers: int) -> Any:
    """OpenCV's detector. Without precise upscaling, points are off by a quarter pixel, half a pixel when mirrored."""
    create = cv2.SIFT_create  # type: ignore[attr-defined]  # its stubs lack it
    return create(MAX_KEYPOINTS, layers, contrastThreshold=_CONTRAST, enable_precise_upscale=True)


def describe_picture(rgb: np.ndarray, working_side: int = KEYPOINT_SIDE) -> DescribedPicture:
    """Find the keypoints of a picture (h, w, 3) uint8. Pictures that are tiny or without texture have none.

    SIFT enlarges its input twofold. So it gets the picture at half the working side, and only a picture with fewer than
    FEW_KEYPOINTS there (blurred, small, plain) at the full side, which takes four times as long. The fused scorer was
    fitted with these keypoints.

    Raises ValueError for a different shape or type.
    """
    picture = _at_working_size(rgb, working_side)
    points, descriptors = _keypoints(picture.grey, working_side // 2, _LAYERS)
    if len(points) < FEW_KEYPOINTS:
        points, descriptors = _keypoints(picture.grey, working_side, _LAYERS)
    return replace(picture, points=points, descriptors=descriptors)


def describe_quickly(rgb: np.ndarray, working_side: int = KEYPOINT_SIDE, scaled_down: int = 1) -> DescribedPicture:
    """The picture with keypoints found at less than half the working side; `finer` has those of the full side.

    scaled_down: of a picture that was decoded at a fraction of its size (`core.decode`); `to_working` maps its full
    pixels. Raises ValueError for a different shape or type.
    """
    picture = _at_working_size(rgb, working_side, scaled_down)
    points, descriptors = _keypoints(picture.grey, round(_QUICK_SHARE * working_side), _QUICK_LAYERS)
    return replace(picture, points=points, descriptors=descriptors)


def _at_working_size(rgb: np.ndarray, working_side: int, scaled_down: int = 1) -> DescribedPicture:
    """The picture without keypoints."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ValueError(f"expected a picture (h, w, 3) uint8, got {rgb.shape} {rgb.dtype}")
    height, width = rgb.shape[:2]
    factor = min(1.0, working_side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if factor < 1 else np.ascontiguousarray(rgb)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    across, down = size[0] / width / scaled_down, size[1] / height / scaled_down
    # pixel centres are at whole numbers: (x + ½)·s − ½
    to_working = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])
    return DescribedPicture(small, grey, *_NO_KEYPOINTS, to_working)


def _keypoints(grey: np.ndarray, side: int, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) float32 in pixels of `grey`, found in it with the longest side at `side`; descriptors (n, 128)."""
    height, width = grey.shape
    factor = min(1.0, side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if min(size) >= _MIN_SIDE:
        searched = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if factor < 1 else grey
        found, numbers = _sift(layers).detectAndCompute(searched, None)
        if found:
            points = np.array([point.pt for point in found], np.float64)
            back = np.array([width / size[0], height / size[1]])
            return ((points + 0.5) * back - 0.5).astype(np.float32), np.rint(numbers).astype(np.float32)
    return _NO_KEYPOINTS
