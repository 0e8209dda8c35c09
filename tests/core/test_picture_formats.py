"""HEIC, AVIF, JPEG XL and camera RAW: upright, in the right colours, and refused before a decoder sees a bad file."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from ndec_builder.core import decode as decoding
from ndec_builder.core.decode import DecodeError, decode, has_frames, read_header
from ndec_builder.core.pictures import formats
from ndec_builder.core.pictures.declared_size import boxed_sizes, jxl_size
from support.odd_pictures import encoded, orientation, swapped_profile
from support.pictures import scene

pillow_jxl = pytest.importorskip("pillow_jxl")
SIZE = (160, 112)


def heic(*pictures: Image.Image, **options: Any) -> bytes:
    file = pillow_heif.HeifFile()
    for picture in pictures:
        file.add_from_pillow(picture)
    out = io.BytesIO()
    file.save(out, **options)
    return out.getvalue()


def difference(data: bytes, picture: Image.Image) -> float:
    return float(np.abs(np.asarray(decode(data), float) - np.asarray(picture.convert("RGB"), float)).mean())


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JXL"])
def test_orientation_is_the_librarys(kind: str, turn: int) -> None:
    """The picture as stored, turned by Pillow's own `exif_transpose`."""
    picture = scene(3, SIZE)
    exif = orientation(turn)
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
        data = encoded(picture, "HEIF", quality=95, exif=exif.tobytes())  # its plugin writes `irot` and `imir`
    elif kind == "AVIF":
        data = encoded(picture, "AVIF", quality=95, exif=exif.tobytes())
    else:  # JPEG XL has its own orientation: what EXIF says does not count
        data = encoded(picture, "JXL", lossless=True, exif=exif.tobytes(), use_container=True)
        exif = orientation(1)
    picture.getexif()[0x0112] = exif[0x0112]
    upright = picture.transpose(decoding.TURNS[exif[0x0112]]) if exif[0x0112] > 1 else picture
    header = read_header(data)
    assert (header.width, header.height, header.format) == (*upright.size, kind)
    assert difference(data, upright) < 4


@pytest.mark.parametrize("kind", ["AVIF", "JXL"])
def test_colour_profiles_are_converted(kind: str) -> None:
    options = {"lossless": True} if kind == "JXL" else {"quality": 95}
    if kind == "JXL":
        options["use_original_profile"] = True
    plain, profiled = scene(3, SIZE), encoded(scene(3, SIZE), kind, icc_profile=swapped_profile(), **options)
    profile = Image.open(io.BytesIO(profiled)).info.get("icc_profile") if kind == "AVIF" else None
    if kind == "AVIF":
        assert profile == swapped_profile()
        red, green, blue = plain.split()
        assert difference(profiled, Image.merge("RGB", (green, red, blue))) < 8
    else:
        assert difference(profiled, plain) < 8  # its encoder keeps no profile


def test_a_heic_with_a_profile_is_converted() -> None:
    picture = scene(3, SIZE)
    red, green, blue = picture.split()
    picture.info["icc_profile"] = swapped_profile()
    assert difference(heic(picture, quality=95), Image.merge("RGB", (green, red, blue))) < 8


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JXL"])
def test_transparency_is_laid_on_a_background(kind: str) -> None:
    picture = Image.new("RGBA", (64, 64), (40, 80, 120, 0))
    picture.paste((40, 80, 120, 255), (0, 0, 32, 64))
    data = heic(picture, quality=-1) if kind == "HEIF" else encoded(picture, kind, quality=95)
    shown = np.asarray(decode(data), float)
    assert np.abs(shown[:, :24] - (40, 80, 120)).max() < 12 and shown[:, 40:].min() > 243


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_deep_heic_has_the_colours_of_its_8_bits(bits: int) -> None:
    picture = scene(3, SIZE)
    deep = (np.asarray(picture).astype(np.uint32) * 65535 // 255).astype(np.uint16)
    file = pillow_heif.from_bytes(mode="RGB;16", size=SIZE, data=deep.tobytes())
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    out = io.BytesIO()
    try:
        (heic_file := file if bits > 8 else pillow_heif.from_pillow(picture)).save(out, quality=95)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    assert heic_file is not None and difference(out.getvalue(), picture) < 4


def test_the_preview_of_a_camera_raw_file_is_read_and_turned() -> None:
    """`data/make_dng.py` wrote the file with tifffile: its sensor picture is plain grey, its preview is `scene(3)`."""
    pytest.importorskip("rawpy")
    data = (Path(__file__).parents[1] / "data" / "scene-3-preview.dng").read_bytes()
    header = read_header(data)
    assert (header.width, header.height, header.format) == (112, 160, "RAW")
    assert difference(data, scene(3, (160, 112)).transpose(Image.Transpose.ROTATE_270)) < 4


def test_a_raw_file_without_a_preview_is_an_error_that_says_so() -> None:
    """`data/make_no_preview_dng.py` wrote it with PiDNG: its first and only picture is the sensor's."""
    pytest.importorskip("rawpy")
    data = (Path(__file__).parents[1] / "data" / "scene-3-no-preview.dng").read_bytes()
    with pytest.raises(DecodeError, match="no preview in the camera RAW file: No thumbnail in file"):
        decode(data)
    for end in (9, 50, 200, 1000):
        with pytest.raises(DecodeError):
            decode(data[:end])


def test_a_camera_raw_file_that_is_cut_is_an_error() -> None:
    pytest.importorskip("rawpy")
    data = (Path(__file__).parents[1] / "data" / "scene-3-preview.dng").read_bytes()
    with pytest.raises(DecodeError):
        decode(data[:300])


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_has_the_colours_of_its_8_bits(bits: int) -> None:
    """Written by imagecodecs 2026.3.6 (libavif 1.4.0) from `scene(3)`, because Pillow writes 8 bits only."""
    data = (Path(__file__).parents[1] / "data" / f"scene-3-{bits}-bits.avif").read_bytes()
    picture = scene(3, (96, 64))
    assert read_header(data).format == "AVIF"
    assert difference(data, picture) < 2


def test_the_main_picture_of_a_heic_with_several_is_read() -> None:
    data = heic(scene(1, SIZE), scene(2, (96, 64)), primary_index=1, quality=95)
    assert (read_header(data).width, read_header(data).height) == (96, 64)
    assert difference(data, scene(2, (96, 64))) < 8 and not has_frames(data)


def test_a_depth_map_is_not_the_picture() -> None:
    """libheif wrote an alpha plane; one digit of its type makes it a depth map, and libheif then reports one."""
    picture = scene(1, SIZE).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(SIZE))
    data = heic(picture, quality=95).replace(b"hevc:2015:auxid:1", b"hevc:2015:auxid:2")
    assert [depth.size for depth in pillow_heif.open_heif(io.BytesIO(data)).info["depth_images"]] == [SIZE]
    assert (read_header(data).width, read_header(data).height) == SIZE
    assert difference(data, scene(1, SIZE)) < 5 and not has_frames(data)


def test_a_motion_photo_is_its_picture() -> None:
    """A phone appends the video as one more box, or behind the end of the JPEG."""
    video = struct.pack(">I4s", 8 + 4_000, b"mpvd") + bytes(4_000)
    assert difference(heic(scene(1, SIZE), quality=95) + video, scene(1, SIZE)) < 5
    assert difference(encoded(scene(1, SIZE), "JPEG", quality=95) + video, scene(1, SIZE)) < 5


def test_the_first_frame_of_an_animated_avif_is_read() -> None:
    data = encoded(scene(1, SIZE), "AVIF", save_all=True, append_images=[scene(2, SIZE)], quality=95)
    assert difference(data, scene(1, SIZE)) < 5 and has_frames(data)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JXL"])
def test_a_cut_file_is_an_error(kind: str) -> None:
    data = heic(scene(1, SIZE)) if kind == "HEIF" else encoded(scene(1, SIZE), kind)
    for end in (20, len(data) // 2, len(data) - 40):
        with pytest.raises(DecodeError):
            decode(data[:end])


@pytest.mark.parametrize(("kind", "library"), [("HEIF", "_open_heif"), ("JXL", "_open_jxl"), ("AVIF", "Image.open")])
def test_a_huge_declared_size_is_refused_before_the_decoder(
    kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = heic(scene(1, SIZE)) if kind == "HEIF" else encoded(scene(1, SIZE), kind)
    if kind == "JXL":  # 2^30 rows as 30 bits, 1:1
        data = b"\xff\x0a" + (0b0 | 0b11 << 1 | ((1 << 30) - 1) << 3 | 1 << 33).to_bytes(8, "little") + data[8:]
    else:
        at = data.index(b"ispe") + 8
        data = data[:at] + struct.pack(">II", 60_000, 60_000) + data[at + 8 :]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a decoder saw the file")

    monkeypatch.setattr(f"{formats.__name__}.{library}", never)
    with pytest.raises(DecodeError, match="too large: "):
        read_header(data)


@pytest.mark.slow
def test_declared_sizes_are_those_of_the_encoder() -> None:
    for size in ((64, 64), (256, 256), (160, 112), (1001, 77), (640, 480), (1920, 1080), (30, 2000)):
        assert jxl_size(encoded(scene(1, size), "JXL", effort=1)) == size
        assert jxl_size(encoded(scene(1, size), "JXL", effort=1, use_container=True)) == size
    assert boxed_sizes(encoded(scene(1, SIZE), "AVIF")) == [SIZE]


def test_a_jpeg_packed_in_jpeg_xl_is_not_unpacked_unchecked(tmp_path: Path) -> None:
    """Its scans would go past the limit; the pixels of JPEG XL itself are those of the JPEG."""
    scene(1, SIZE).save(tmp_path / "a.jpg", quality=95, exif=orientation(6).tobytes())
    with Image.open(tmp_path / "a.jpg") as picture:
        packed = encoded(picture, "JXL", lossless_jpeg=True)
    assert b"jbrd" in packed
    original = decode((tmp_path / "a.jpg").read_bytes())
    assert read_header(packed).format == "JXL" and difference(packed, original) < 3


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_has", lambda module: False)
    assert ".jxl" not in formats.read_suffixes() and ".heic" in formats.read_suffixes()
    with pytest.raises(DecodeError, match=r"a JPEG XL file; install the extra `formats`"):
        decode(encoded(scene(1, SIZE), "JXL"))
