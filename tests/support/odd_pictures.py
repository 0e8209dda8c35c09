"""Real files that programs show differently: orientation, animation, profiles, transparency, depth."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from support.pictures import scene

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(png: bytes, kind: bytes, content: bytes, before: bytes) -> bytes:
    """The PNG with one more chunk in front of the first chunk named `before`."""
    place = png.index(before) - 4
    return png[:place] + chunk(kind, content) + png[place:]


@cache  # a profile contains the second in which it was made
def swapped_profile() -> bytes:
    """An sRGB profile in which red and green are exchanged, so that a missing conversion is seen at once."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = struct.unpack(">I", profile[128:132])[0]
    places = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(tags)}
    red, green = (bytes(profile[places[name] : places[name] + 8]) for name in (b"rXYZ", b"gXYZ"))
    profile[places[b"rXYZ"] : places[b"rXYZ"] + 8], profile[places[b"gXYZ"] : places[b"gXYZ"] + 8] = green, red
    return bytes(profile).replace(b"s\0R\0G\0B\0", b"s\0W\0A\0P\0").replace(b"sRGB built-in", b"swap built-in")


def animation(format: str) -> bytes:
    first, second = scene(1), scene(2)
    return encoded(first, format, save_all=True, append_images=[second], duration=200, loop=0, **(
        {"lossless": True} if format == "WEBP" else {}))  # fmt: skip


def transparent() -> Image.Image:
    image = scene(3).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _exif_bytes(value: int) -> bytes:
    return orientation(value).tobytes().removeprefix(b"Exif\0\0")


def _jpeg_with_xmp() -> bytes:
    return encoded(scene(4), "JPEG", quality=95, xmp=XMP)


def _gamma(value: int) -> bytes:
    return with_chunk(encoded(scene(5), "PNG"), b"gAMA", struct.pack(">I", value), b"IDAT")


def _two_exif_blocks() -> bytes:
    one = encoded(scene(6), "JPEG", quality=95, exif=orientation(1))
    block = b"Exif\0\0" + _exif_bytes(6)
    return one[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + one[2:]


def _deep_png() -> bytes:
    grey = np.asarray(scene(7).convert("L"), np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


ODD: dict[str, Callable[[], bytes]] = {
    "JPEG, EXIF orientation": lambda: encoded(scene(1), "JPEG", quality=95, exif=orientation(6)),
    "JPEG, mirrored by EXIF": lambda: encoded(scene(1), "JPEG", quality=95, exif=orientation(2)),
    "JPEG, XMP orientation": _jpeg_with_xmp,
    "JPEG, two EXIF blocks": _two_exif_blocks,
    "JPEG, colour profile": lambda: encoded(scene(1), "JPEG", quality=95, icc_profile=swapped_profile()),
    "PNG, colour profile": lambda: encoded(scene(1), "PNG", icc_profile=swapped_profile()),
    "JPEG, CMYK": lambda: encoded(scene(8).convert("CMYK"), "JPEG", quality=95),
    "JPEG with a second picture (MPO)": lambda: encoded(scene(9), "MPO", save_all=True, append_images=[scene(10)]),
    "WebP, EXIF orientation": lambda: encoded(scene(1), "WEBP", lossless=True, exif=orientation(6)),
    "WebP, XMP orientation": lambda: encoded(scene(1), "WEBP", lossless=True, xmp=XMP),
    "WebP, animated": lambda: animation("WEBP"),
    "WebP, transparent": lambda: encoded(transparent(), "WEBP", lossless=True),
    "PNG, eXIf before the pixels": lambda: encoded(scene(1), "PNG", exif=orientation(6)),
    "PNG, eXIf after the pixels": lambda: with_chunk(encoded(scene(1), "PNG"), b"eXIf", _exif_bytes(6), b"IEND"),
    "PNG, XMP orientation": lambda: with_chunk(
        encoded(scene(1), "PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP, b"IDAT"
    ),
    "PNG, animated": lambda: animation("PNG"),
    "PNG, transparent": lambda: encoded(transparent(), "PNG"),
    "PNG, palette with transparency": lambda: encoded(scene(2).quantize(32), "PNG", transparency=3),
    "PNG, gamma 1.0": lambda: _gamma(100_000),
    "PNG, 16-bit grey": _deep_png,
    "GIF, animated": lambda: animation("GIF"),
    "GIF, transparent": lambda: encoded(scene(2).quantize(32), "GIF", transparency=3),
    "BMP, 32 bits": lambda: encoded(transparent(), "BMP"),
    "TIFF, orientation": lambda: encoded(scene(1), "TIFF", exif=orientation(8)),
}  # fmt: skip
PLAIN: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(scene(1), "JPEG", quality=95),
    "JPEG, grey": lambda: encoded(scene(1).convert("L"), "JPEG", quality=95),
    "JPEG, progressive": lambda: encoded(scene(1), "JPEG", quality=95, progressive=True),
    "JPEG, EXIF upright": lambda: encoded(scene(1), "JPEG", quality=95, exif=orientation(1), comment=b"by hand"),
    "PNG": lambda: encoded(scene(1), "PNG"),
    "PNG, grey": lambda: encoded(scene(1).convert("L"), "PNG"),
    "PNG, palette": lambda: encoded(scene(1).quantize(64), "PNG", dpi=(72, 72)),
    "PNG, sRGB and gamma": lambda: with_chunk(
        with_chunk(encoded(scene(1), "PNG"), b"gAMA", struct.pack(">I", 45_455), b"IDAT"), b"sRGB", b"\0", b"IDAT"
    ),
    "WebP": lambda: encoded(scene(1), "WEBP", quality=90),
    "WebP, lossless": lambda: encoded(scene(1), "WEBP", lossless=True),
}


def colour_profile(gamma: float, text: bytes = b"plain") -> bytes:
    """An RGB profile with sRGB's primaries and another tone curve, written out by hand (ICC.1:2001)."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + s15(x) + s15(y) + s15(z)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(79)
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
