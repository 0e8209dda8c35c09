from __future__ import annotations

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from faults.zoo_pictures import scan_bomb
from ndec_builder.core.decode import DecodeError, decode, read_header
from support.pictures import scene


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_exif_orientations_as_pillow_turns_them(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(5, (96, 64)), "JPEG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(np.asarray(decode(data)), expected)
    header = read_header(data)
    assert (header.height, header.width) == expected.shape[:2]
    reduced = decode(data, target=lambda width, height: (width // 2, height // 2))
    assert reduced.size == (expected.shape[1] // 2, expected.shape[0] // 2)


def test_a_jpeg_is_scaled_down_while_it_is_decoded_never_below_the_target() -> None:
    picture = scene(6, (640, 480))
    data = encoded(picture, "JPEG", quality=95)
    sizes = {side: decode(data, target=lambda w, h, side=side: (side, side)).size for side in (480, 240, 100, 7)}
    assert sizes == {480: (640, 480), 240: (320, 240), 100: (160, 120), 7: (80, 60)}
    odd = encoded(picture.crop((0, 0, 641, 479)), "JPEG")
    numbers = [
        decode(odd, turn, target=lambda w, h, side=side: (side, side)).info.get("scaled_down")
        for turn, side in ((0, 479), (90, 200), (180, 100), (270, 7))
    ]
    assert numbers == [None, 2, 4, 8]
    small = np.asarray(decode(data, target=lambda w, h: (160, 120)), float)
    expected = np.asarray(picture.resize((160, 120), Image.Resampling.BOX), float)
    assert np.abs(small - expected).mean() < 3
    assert decode(encoded(picture, "PNG"), target=lambda w, h: (7, 7)).size == (640, 480)  # only JPEG can


def test_a_progressive_jpeg_is_whole_or_a_reject() -> None:
    data = encoded(scene(7, (200, 160)), "JPEG", progressive=True)
    assert decode(data).size == (200, 160)
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(DecodeError, match="cannot decode"):
            decode(data[: int(len(data) * share)], target=lambda w, h: (50, 50))


def colour_profile(gamma: float) -> bytes:
    """An RGB profile with sRGB's primaries and another tone curve, written out by hand (ICC.1:2001)."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + s15(x) + s15(y) + s15(z)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"plain\0" + bytes(78)
    tags = {
        b"desc": name,
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4360, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        value += bytes(-len(value) % 4)
        table += tag + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642) + s15(1) + s15(0.8249)
    return (head + bytes(128 - len(head))) + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_an_embedded_profile_is_converted_to_srgb(format: str) -> None:
    """Gamma 1 against the sRGB curve, computed from its formula: linear 0.2 is shown as 124, not 51."""
    values = [26, 51, 128, 204, 255]
    picture = Image.new("RGB", (16 * len(values), 16))
    for i, value in enumerate(values):
        picture.paste((value,) * 3, (16 * i, 0, 16 * i + 16, 16))
    data = encoded(picture, format, icc_profile=colour_profile(1.0), **({"quality": 100} if format == "JPEG" else {}))
    linear = np.array(values) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.asarray(decode(data))[8, 8::16, 1] == pytest.approx(expected, abs=3)


def test_srgb_and_broken_profiles_change_nothing() -> None:
    picture = scene(8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all", colour_profile(1.0)[:200]):
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


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan costs a pass over all blocks and a few bytes: 50 kB would keep a core busy for minutes."""

    def never(_: Image.Image) -> None:
        raise AssertionError("decoded")

    data = scan_bomb(640, 480, 3_000)
    assert len(data) < 100_000
    with monkeypatch.context() as patch, pytest.raises(DecodeError, match=r"too slow to decode: 30\d\d scans"):
        patch.setattr("PIL.ImageFile.ImageFile.load", never)
        decode(data)
    decode(scan_bomb(640, 480, 50))  # what an odd encoder may write is taken


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


def deep_png(values: np.ndarray) -> bytes:
    """A 16-bit RGB PNG, written by hand: Pillow writes none. values: (height, width, 3) uint16."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour() -> None:
    full = np.repeat((RAMP * 65535)[..., None], 3, 2).astype(np.uint16)
    assert np.abs(np.asarray(decode(deep_png(full)), float)[0, :, 0] - np.arange(256)).max() <= 1
    assert np.asarray(decode(deep_png(full * 0))).max() == 0
    with pytest.raises(DecodeError, match="16-bit colour with values below 4096"):
        decode(deep_png(full // 16))


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


def test_scans_behind_the_picture_and_in_its_thumbnail_do_not_count() -> None:
    photo = encoded(scene(8, (640, 480)), "JPEG")
    video = b"\x00\x00\x00\x18ftypmp42" + b"\xff\xda\x00\x08" * 115  # a motion photo: the clip follows the picture
    assert np.array_equal(np.asarray(decode(photo + video)), np.asarray(decode(photo)))
    segment = b"\xff\xda\x00\x08" * 110  # as the scans of a thumbnail in EXIF
    with_thumbnail = photo[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + photo[2:]
    assert np.array_equal(np.asarray(decode(with_thumbnail)), np.asarray(decode(photo)))
    behind_comment = photo[:2] + b"\xff\xfe\x00\x06\xff\xda\xff\xd9" + scan_bomb(640, 480, 3_000)[2:]
    with pytest.raises(DecodeError, match=r"too slow to decode: 30\d\d scans"):  # a comment is no end of the picture
        decode(behind_comment)


def test_a_jpeg_with_several_pictures_is_a_jpeg() -> None:
    data = encoded(scene(1, (64, 48)), "MPO", save_all=True, append_images=[scene(2, (64, 48))])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert read_header(data).format == "JPEG"
    assert np.abs(np.asarray(decode(data), float) - np.asarray(scene(1, (64, 48)), float)).mean() < 10


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
