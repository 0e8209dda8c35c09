from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ndec_builder.core.decode import DecodeError, decode, read_header
from pictures import scene


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format(format: str) -> None:
    picture = scene(1)
    image = decode(encoded(picture, format))
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image, float) - np.asarray(picture, float)).mean()
    assert difference < (12 if format == "GIF" else 6)
    assert read_header(encoded(picture, format)).format == format


def test_exif_orientation_and_rotation() -> None:
    picture = scene(2, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    data = encoded(picture, "PNG", exif=exif)
    assert read_header(data).width == 40
    turned = np.rot90(np.asarray(picture), k=-1)
    assert np.array_equal(np.asarray(decode(data)), turned)
    assert np.array_equal(np.asarray(decode(encoded(picture, "PNG"), rotation=90)), turned)
    with pytest.raises(DecodeError, match="multiple of 90"):
        decode(data, rotation=45)


def test_transparency_goes_on_white_and_modes_become_rgb() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(decode(encoded(clear, "PNG"))).min() == 255
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert np.asarray(decode(encoded(palette, "PNG", transparency=0))).min() == 255
    deep = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert abs(int(np.asarray(decode(encoded(deep, "PNG"))).mean()) - 128) <= 1
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    red = np.asarray(decode(encoded(cmyk, "TIFF")))[0, 0]
    assert red[0] > 200
    assert red[1] < 60


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises many pixels."""
    data = bytearray(encoded(scene(4), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, no picture", "not an image"),
        (encoded(scene(3), "JPEG")[:900], "cannot decode"),
        (encoded(scene(3), "PNG")[:900], "cannot decode"),
        (bomb(65_000, 65_000), "too large"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "bomb", "PostScript"],
)
def test_bad_bytes_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(data)
