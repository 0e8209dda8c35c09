"""More than 8 bits a channel: the range of grey that becomes black and white, and 16-bit colour."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from ndec_builder.core.decode import DecodeError, decode, read_header
from support.odd_pictures import colour_profile, encoded
from support.pictures import scene


@pytest.mark.parametrize(
    ("mode", "dtype", "top"), [("I;16", np.uint16, 65535), ("I", np.int32, 200), ("F", np.float32, 300)]
)
def test_grey_in_strips_is_grey_at_once(mode: str, dtype: type, top: int) -> None:
    values = np.random.default_rng(1).integers(0, top, (700, 9)).astype(dtype)  # more rows than a strip, not a multiple
    out = io.BytesIO()
    Image.fromarray(values).save(out, "TIFF")
    highest = {65535: 65535, 200: 255, 300: 1023}[top]  # the smallest usual bit depth that holds the values
    expected = np.round(values.astype(np.float64) * 255 / highest).astype(np.uint8)
    assert np.array_equal(np.asarray(decode(out.getvalue()))[:, :, 0], expected)


def tiff(values: np.ndarray, tags: dict[int, object] | None = None) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        info[tag] = value
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=info)


RAMP = np.linspace(0, 1, 256, dtype=np.float32)[None, :].repeat(8, 0)  # what a grey ramp of 256 levels looks like


@pytest.mark.parametrize(
    ("data", "range_"),
    [
        (tiff(RAMP), (0, 1)),
        (tiff(RAMP * 255), (0, 255)),
        (tiff(np.clip(RAMP * 1.04 - 0.02, -0.02, 1.02)), (0, 1)),  # a resampling filter overshoots
        (tiff((RAMP * 4095).astype(np.uint16)), (0, 4095)),
        (encoded(Image.fromarray((RAMP * 4095).astype(np.uint16)), "PNG"), (0, 4095)),
        (tiff((RAMP * 1023).astype(np.uint16)), (0, 1023)),
        (tiff((RAMP * 65535).astype(np.uint16)), (0, 65535)),
        (tiff((RAMP * 4095).astype(np.int32)), (0, 4095)),
        (tiff((RAMP * 4095).astype(np.uint16), {280: 0, 281: 4095}), (0, 4095)),
        (tiff((RAMP * 500).astype(np.float32), {340: 0.0, 341: 500.0}), (0, 500)),
        (tiff((RAMP * 7.5).astype(np.float32)), (0, 7.5)),
    ],
    ids=[
        "0…1",
        "0…255",
        "overshoot",
        "12 bits",
        "12-bit PNG",
        "10 bits",
        "16 bits",
        "int32",
        "stated",
        "stated float",
        "0…7.5",
    ],
)
def test_deep_grey_is_scaled_by_its_range(data: bytes, range_: tuple[float, float]) -> None:
    image = decode(data)
    assert image.info["grey_range"] == range_
    assert np.abs(np.asarray(image, float)[0, :, 0] - np.arange(256)).max() <= (6 if range_ == (0, 1) else 1)


def test_a_stated_range_wins_over_the_values() -> None:
    dark = (RAMP * 4095).astype(np.uint16)
    assert np.asarray(decode(tiff(dark, {280: 0, 281: 65535}))).max() == round(4095 / 257)
    assert np.asarray(decode(tiff(dark, {280: 0, 281: 100}))).max() == 255  # a range that is not true is ignored


def test_a_rotated_deep_picture_keeps_its_range() -> None:
    image = decode(tiff((RAMP * 4095).astype(np.uint16)), rotation=90)
    assert image.size == (8, 256) and image.info["grey_range"] == (0, 4095)


def test_deep_grey_with_white_as_zero() -> None:
    data = tiff((RAMP * 65535).astype(np.uint16), {262: 0})
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0  # type: ignore[attr-defined]
    assert np.abs(np.asarray(decode(data), float)[0, :, 0] - np.arange(255, -1, -1)).max() <= 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (RAMP * 2 - 1, "grey values -1…1 are outside"),
        (RAMP * 1e6, r"grey values 0…1e\+06 are outside"),
        (np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32), "not numbers"),
    ],
    ids=["-1…1", "a million", "NaN"],
)
def test_a_range_that_nobody_can_know_is_a_reason(values: np.ndarray, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(tiff(values))


def deep_png(values: np.ndarray, profile: bytes = b"") -> bytes:
    """A 16-bit RGB or RGBA PNG, written by hand: Pillow writes none. values: (height, width, 3 or 4) uint16."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    icc = chunk(b"iCCP", b"linear\0\0" + zlib.compress(profile)) if profile else b""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + icc + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour() -> None:
    full = np.repeat((RAMP * 65535)[..., None], 3, 2).astype(np.uint16)
    assert np.abs(np.asarray(decode(deep_png(full)), float)[0, :, 0] - np.arange(256)).max() <= 1
    assert np.asarray(decode(deep_png(full * 0))).max() == 0
    with pytest.raises(DecodeError, match="16-bit colour with values below 4096"):
        decode(deep_png(full // 16))


def test_8_bits_stored_as_16_bit_colour_are_not_a_black_picture() -> None:
    values = np.repeat((RAMP * 255)[..., None], 3, 2).astype(np.uint16)
    with pytest.raises(DecodeError, match="16-bit colour with values below 256:"):
        decode(deep_png(values))


def test_dark_16_bit_colour_is_found_under_transparency() -> None:
    values = np.repeat((RAMP * 4095)[..., None], 4, 2).astype(np.uint16)
    values[..., 3] = 4095  # opaque in 12 bits: nearly transparent, and nearly white on a white background
    with pytest.raises(DecodeError, match="16-bit colour with values below 4096:"):
        decode(deep_png(values))


def test_dark_16_bit_colour_is_measured_before_its_profile_brightens_it() -> None:
    values = np.repeat((RAMP * 511)[..., None], 3, 2).astype(np.uint16)
    with pytest.raises(DecodeError, match="16-bit colour with values below 512:"):
        decode(deep_png(values, colour_profile(1.0)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True], ids=["RGB", "16-bit grey"])
def test_a_rotated_tiff_has_the_size_of_its_pixels(orientation: int, deep: bool) -> None:
    stored = np.arange(60 * 40, dtype=np.uint16).reshape(40, 60) * 27 if deep else np.asarray(scene(5, (60, 40)))
    data = tiff(stored, {274: orientation})
    upright = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation](stored)  # fmt: skip
    decoded, header = np.asarray(decode(data), float), read_header(data)
    assert (header.height, header.width) == decoded.shape[:2] == upright.shape[:2]
    assert np.abs(decoded[..., 0] - (upright / 257 if deep else upright[..., 0])).max() <= 1
