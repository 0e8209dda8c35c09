"""Hostile pictures as bytes: false headers, cut files and excessive sizes in every format of Pillow."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 - registers JPEG XL
from PIL import Image, ImageCms

from support.pictures import scene

Bytes = Iterator[tuple[str, str, bytes]]  # (kind of hostility, ending, content)
SMALL = (96, 72)
DATA = Path(__file__).parents[1] / "data"
FORGED = ((65_500, 65_500), (100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 0), (0, 7), (65_535, 1), (3, 65_535))


def sound(seed: int) -> dict[str, tuple[str, bytes]]:
    """Good files of every format and pixel form, name → (ending, content): what the others are made from."""
    rgb = scene(seed, SMALL)
    grey16 = Image.fromarray((np.asarray(rgb.convert("L"), np.uint16) * 257).astype(np.uint16))
    alpha = rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    frames = [scene(seed + n, SMALL) for n in range(4)]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a picture"
    profile = _profile("sRGB")
    made = {
        "jpeg": (rgb, "jpg", {"quality": 90}),
        "jpeg-progressive": (rgb, "jpg", {"progressive": True}),
        "jpeg-grey": (rgb.convert("L"), "jpg", {}),
        "jpeg-cmyk": (rgb.convert("CMYK"), "jpg", {}),
        "jpeg-exif-icc": (rgb, "jpg", {"exif": exif.tobytes(), "icc_profile": profile}),
        "png": (rgb, "png", {}),
        "png-alpha": (alpha, "png", {}),
        "png-palette": (rgb.convert("P"), "png", {"transparency": 3}),
        "png-1bit": (rgb.convert("1"), "png", {}),
        "png-16bit": (grey16, "png", {}),
        "png-icc": (rgb, "png", {"icc_profile": profile}),
        "webp": (rgb, "webp", {"quality": 80}),
        "webp-lossless": (alpha, "webp", {"lossless": True}),
        "webp-animated": (frames[0], "webp", {"save_all": True, "append_images": frames[1:]}),
        "gif": (rgb.convert("P"), "gif", {}),
        "gif-animated": (frames[0], "gif", {"save_all": True, "append_images": frames[1:], "loop": 0}),
        "avif": (rgb, "avif", {}),
        "avif-animated": (frames[0], "avif", {"save_all": True, "append_images": frames[1:]}),
        "heic": (rgb, "heic", {}),
        "heic-alpha": (alpha, "heic", {}),
        "jxl": (rgb, "jxl", {}),
        "bmp": (rgb, "bmp", {}),
        "bmp-palette": (rgb.convert("P"), "bmp", {}),
        "tiff": (rgb, "tif", {}),
        "tiff-lzw": (rgb, "tif", {"compression": "tiff_lzw"}),
        "tiff-cmyk": (rgb.convert("CMYK"), "tif", {"compression": "tiff_deflate"}),
        "tiff-16bit": (grey16, "tif", {}),
        "tiff-pages": (frames[0], "tiff", {"save_all": True, "append_images": frames[1:]}),
    }
    files = {name: (ending, _encoded(image, ending, options)) for name, (image, ending, options) in made.items()}
    raw = {name: ("dng", (DATA / f"scene-3-{name}.dng").read_bytes()) for name in ("preview", "no-preview")}
    return files | {f"raw-{name}": file for name, file in raw.items()}


def _encoded(image: Image.Image, ending: str, options: dict[str, object]) -> bytes:
    out = io.BytesIO()
    pillow_heif.register_heif_opener()
    image.save(out, {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}.get(ending, ending.upper()), **options)
    return out.getvalue()


def truncated(files: dict[str, tuple[str, bytes]], chance: random.Random, each: int) -> Bytes:
    """Cut in the signature, at and around every segment or chunk, in the pixels, and one byte before the end."""
    for name, (ending, data) in files.items():
        borders = {place + step for place in _borders(data) for step in (-1, 0, 1)}
        always = [place for place in (1, 3, 8, 12, len(data) // 2, len(data) - 1) if 0 < place < len(data)]
        places = [place for place in borders if 0 < place < len(data)]
        chosen = [*always, *chance.sample(sorted(places), min(len(places), each))]
        while len(set(chosen)) < min(each, len(data) - 1):
            chosen.append(chance.randrange(1, len(data)))
        for place in sorted(set(chosen))[:each]:
            yield f"truncated {name}", ending, data[:place]


def _borders(data: bytes) -> list[int]:
    """Where segments of a JPEG, chunks of a PNG or RIFF file begin; for the others every 16th byte of the header."""
    if data[:2] == b"\xff\xd8":
        return [i for i in range(len(data) - 1) if data[i] == 0xFF and data[i + 1] not in (0, 0xFF)]
    if data[:4] == b"\x89PNG":
        places, at = [], 8
        while at + 8 <= len(data):
            places += [at, at + 4, at + 8]
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        return places
    if data[:4] == b"RIFF":
        places, at = [], 12
        while at + 8 <= len(data):
            places += [at, at + 8]
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        return places
    return list(range(0, min(len(data), 512), 16))


def flipped(files: dict[str, tuple[str, bytes]], chance: random.Random, each: int) -> Bytes:
    """One to eight bits turned, half of the time among the first 128 bytes; sometimes a block overwritten or moved."""
    for name, (ending, data) in files.items():
        for number in range(each):
            changed = bytearray(data)
            reach = 128 if number % 2 else len(data)
            for _ in range(chance.choice((1, 1, 2, 8))):
                changed[chance.randrange(min(reach, len(data)))] ^= 1 << chance.randrange(8)
            if number % 10 == 9:
                at = chance.randrange(len(data))
                block = bytes(chance.choice((0x00, 0xFF, chance.randrange(256))) for _ in range(16))
                changed[at : at + 16] = block
            yield f"bit-flipped {name}", ending, bytes(changed)


def forged_sizes(files: dict[str, tuple[str, bytes]]) -> Bytes:
    """Headers that claim sizes that the file does not hold."""
    for width, height in FORGED:
        _, data = files["png"]
        header = struct.pack(">II", width, height) + data[24:29]
        header += struct.pack(">I", zlib.crc32(b"IHDR" + header))
        yield "forged size", "png", data[:16] + header + data[33:]
        if width < 65_536:
            _, data = files["jpeg"]
            at = next(i for i in range(len(data)) if data[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
            yield "forged size", "jpg", data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
            _, data = files["gif"]
            yield "forged size", "gif", data[:6] + struct.pack("<HH", width, height) + data[10:]
        _, data = files["bmp"]
        for turned in (1, -1):
            size = struct.pack("<ii", width, turned * min(height, 2**31 - 1))
            yield "forged size", "bmp", data[:18] + size + data[26:]
        for name in ("tiff", "raw-preview", "raw-no-preview"):
            ending, data = files[name]
            yield "forged size", ending, _with_tiff_size(data, width, height)
        for ending in ("avif", "heic"):
            _, data = files[ending]
            at = data.index(b"ispe") + 8
            yield "forged size", ending, data[:at] + struct.pack(">II", width, height) + data[at + 8 :]
        _, data = files["jxl"]  # a height of 30 bits, the width equal to it
        size = (0b110 | ((height - 1) % 2**30) << 3 | 1 << 33).to_bytes(8, "little")
        yield "forged size", "jxl", data[:2] + size + data[10:]


def _with_tiff_size(data: bytes, width: int, height: int) -> bytes:
    changed = bytearray(data)
    at = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        place = at + 2 + 12 * entry
        tag = struct.unpack_from("<H", data, place)[0]
        if tag in (256, 257):
            struct.pack_into("<HHII", changed, place, tag, 4, 1, width if tag == 256 else height)
    return bytes(changed)


def png_of(width: int, height: int, *, bits: int = 8, colour: int = 0) -> bytes:
    """A valid PNG of one value, packed to almost nothing: what a decompression bomb is."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + (width * bits * channels + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bombs(large: bool) -> Bytes:
    """Small files that unpack to very much. `large`: also those that take seconds each."""
    yield "decompression bomb", "png", png_of(30_000, 30_000, bits=1)
    yield "decompression bomb", "png", png_of(20_000, 20_000, bits=1)
    if large:
        yield "decompression bomb below the limit", "png", png_of(14_000, 14_000)
        yield "decompression bomb below the limit", "png", png_of(14_000, 14_000, bits=16)
        yield "decompression bomb below the limit", "png", png_of(14_000, 14_000, colour=6)
        yield "decompression bomb below the limit", "gif", _encoded(Image.new("P", (14_000, 14_000)), "gif", {})
        yield "decompression bomb below the limit", "webp", _encoded(Image.new("L", (16_000, 12_000)), "webp", {})
        yield "decompression bomb below the limit", "jpg", _encoded(Image.new("L", (65_500, 3_000)), "jpg", {})
        yield (
            "decompression bomb below the limit",
            "tif",
            _encoded(Image.new("L", (14_000, 14_000)), "tif", {"compression": "tiff_lzw"}),
        )
    yield "scan bomb", "jpg", scan_bomb(*((3_000, 3_000, 20_000) if large else (800, 800, 4_000)))


def scan_bomb(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG with thousands of scans: each costs a pass over all blocks, and a few bytes of file."""
    data = _encoded(Image.new("L", (width, height), 127), "jpg", {"progressive": True})
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    last = data[starts[-1] : -2]
    return data[:-2] + last * scans + data[-2:]


def long_and_thin() -> Bytes:
    for length in (2, 100, 5_000, 65_500):
        for size in ((1, length), (length, 1)):
            for ending in ("png", "jpg", "bmp", "gif", "tif", "webp"):
                if ending == "webp" and length > 16_383:
                    continue
                yield "1×N or N×1", ending, _encoded(Image.new("RGB", size, (90, 120, 30)), ending, {})
    for size in ((65_500, 4), (4, 65_500), (65_500, 40), (9, 30_000)):
        for ending in ("png", "jpg", "tif"):
            yield "65,500 px", ending, _encoded(Image.new("RGB", size, (9, 120, 30)), ending, {})


def not_pictures(files: dict[str, tuple[str, bytes]], chance: random.Random) -> Bytes:
    """Empty files, other contents, and pictures with the extension of a different format."""
    endings = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "JPG", "PNG")
    for ending in endings:
        yield "0 bytes", ending, b""
        yield "a few zeros", ending, bytes(chance.choice((1, 16, 4096)))
        yield "noise", ending, chance.randbytes(chance.choice((10, 1000, 20_000)))
    others = [
        b"<html><script>alert(1)</script></html>", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        b"%PDF-1.4\n%%EOF", b"\x7fELF" + bytes(60), b"PK\x03\x04" + bytes(26), b"#!/bin/sh\ntouch /tmp/ndec-was-here\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", b"P6 9 9 255\n" + bytes(243),
        b"\x00\x00\x01\x00\x01\x00\x10\x10" + bytes(40), b"SIMPLE  =                    T" + bytes(50),
        b"version https://git-lfs.example/spec/v1\noid sha256:00\nsize 12\n", b"\x80\x04\x95\x00\x00\x00\x00\x00",
    ]  # fmt: skip
    for content in others:
        for ending in ("jpg", "png", "tif", "gif"):
            yield "another format", ending, content
    for ending, content in files.values():
        other = "png" if ending != "png" else "jpg"
        yield "wrong ending", other, content


def odd_forms(seed: int, chance: random.Random) -> Bytes:
    """Sound but unusual: animations, CMYK, 16 bits, floats, huge and broken colour profiles and EXIF blocks."""
    for number in range(10):
        frames = [scene(seed + number * 7 + n, SMALL) for n in range(2 + number)]
        options = {"save_all": True, "append_images": frames[1:]}
        for ending in ("gif", "webp", "tif", "png"):
            yield "animated", ending, _encoded(frames[0], ending, options)
        picture = frames[0]
        for ending in ("jpg", "tif"):
            yield "CMYK", ending, _encoded(picture.convert("CMYK"), ending, {"icc_profile": chance.randbytes(200)})
        grey = np.asarray(picture.convert("L"), np.uint16) * (1 + 28 * number)
        for ending in ("png", "tif"):
            yield "16-bit", ending, _encoded(Image.fromarray(grey), ending, {})
        values = np.asarray(picture.convert("L"), np.float32)
        for scale in (1.0, -1.0, 1e30, np.nan):
            yield "32-bit float", "tif", _encoded(Image.fromarray(values * np.float32(scale)), "tif", {})
        yield from _odd_profiles(picture, chance)
        yield from _odd_exif(picture, chance, number)
        for mode in ("LA", "LAB", "YCbCr", "1", "I"):
            ending = "png" if mode in ("LA", "1", "I") else "tif"
            yield f"mode {mode}", ending, _encoded(picture.convert("L" if mode == "I" else mode), ending, {})


def _profile(space: Literal["LAB", "XYZ", "sRGB"]) -> bytes:
    """A colour profile; the time at which it was made, in its header, is always the same one."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
    return data[:24] + bytes(12) + data[36:]


def _odd_profiles(picture: Image.Image, chance: random.Random) -> Bytes:
    srgb, lab = _profile("sRGB"), _profile("LAB")
    broken = bytearray(srgb)
    for _ in range(20):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    profiles = [b"x", srgb[:130], lab, bytes(broken), chance.randbytes(3_000), bytes(1_500_000), srgb * 40]
    for profile in profiles:
        for ending in ("jpg", "png", "webp"):
            if ending == "jpg" and len(profile) > 16_000_000:
                continue
            yield "odd ICC", ending, _encoded(picture, ending, {"icc_profile": profile})


def _odd_exif(picture: Image.Image, chance: random.Random, number: int) -> Bytes:
    for value in (0, 9, 65_535, 1 + number % 8):
        exif = Image.Exif()
        exif[0x0112] = value
        yield "odd EXIF", "jpg", _encoded(picture, "jpg", {"exif": exif.tobytes()})
    loop = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2)
    loop += struct.pack("<HHII", 0x8769, 4, 1, 8) * 2 + struct.pack("<I", 8)  # a directory that names itself
    huge = b"Exif\0\0MM\0*" + struct.pack(">I", 0xFFFFFFF0)
    many = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + chance.randbytes(6_000)
    for block in (loop, huge, many, b"Exif\0\0", chance.randbytes(500)):
        yield "odd EXIF", "jpg", _encoded(picture, "jpg", {"exif": block})
        yield "odd EXIF", "png", _encoded(picture, "png", {"exif": block})
        yield "odd EXIF", "webp", _encoded(picture, "webp", {"exif": block})
