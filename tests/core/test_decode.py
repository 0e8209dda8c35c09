from __future__ import annotations

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from ndec_builder.core.decode import DecodeError, decode, read_header
from support.odd_pictures import colour_profile, encoded
from support.pictures import scene


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


@pytest.mark.parametrize(
    ("format", "text"), [("PNG", b"plain"), ("JPEG", b"plain"), ("PNG", b"GIMP built-in Linear sRGB")]
)
def test_an_embedded_profile_is_converted_to_srgb(format: str, text: bytes) -> None:
    """Gamma 1 against the sRGB curve, computed from its formula: linear 0.2 is shown as 124, not 51."""
    values = [26, 51, 128, 204, 255]
    picture = Image.new("RGB", (16 * len(values), 16))
    for i, value in enumerate(values):
        picture.paste((value,) * 3, (16 * i, 0, 16 * i + 16, 16))
    data = encoded(
        picture, format, icc_profile=colour_profile(1.0, text), **({"quality": 100} if format == "JPEG" else {})
    )
    linear = np.array(values) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.asarray(decode(data))[8, 8::16, 1] == pytest.approx(expected, abs=3)


def test_srgb_and_broken_profiles_change_nothing() -> None:
    picture = scene(8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    near = colour_profile(2.2, b"sRGB IEC61966-2.1")  # greys differ from sRGB's by up to 5
    for profile in (srgb, near, b"no profile at all", colour_profile(1.0)[:200]):
        assert np.array_equal(np.asarray(decode(encoded(picture, "PNG", icc_profile=profile))), np.asarray(picture))


def test_cmyk_jpeg_and_animation() -> None:
    cmyk = scene(9).convert("CMYK")
    got = np.asarray(decode(encoded(cmyk, "JPEG", quality=95)), float)
    assert np.abs(got - np.asarray(cmyk.convert("RGB"), float)).mean() < 6
    first, second = scene(10), scene(11)
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        moving = decode(encoded(first, format, save_all=True, append_images=[second], **options))
        assert np.abs(np.asarray(moving, float) - np.asarray(first, float)).mean() < 12


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndec_builder.core.pictures.formats.LARGE", 1_000)
    at_once, most = [0], [0]
    load = Image.Image.load

    def slow(image: Image.Image, *rest: object) -> object:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.05)
        at_once[0] -= 1
        return load(image, *rest)

    out = io.BytesIO()
    scene(1, (64, 48)).save(out, "BMP")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", slow)
    monkeypatch.setattr("ndec_builder.core.decode._flatten", lambda image: Image.new("RGB", image.size))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode, [out.getvalue()] * 4))
    assert most[0] == 1
