from __future__ import annotations

import io
import itertools
import subprocess
import sys
import time
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from ndec_builder.candidates import duplicates
from ndec_builder.candidates.duplicates import (
    ASPECT_TOLERANCE,
    COLOUR_DIFFERENCE,
    DUPLICATE_SCORE,
    MEAN_DIFFERENCE,
    TILE_DIFFERENCE,
    Thumbnail,
    find_duplicates,
    near_exact,
)
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from support.pictures import scene

SIZE = (240, 180)


def _encode(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _row(uri: str, sha256: str | None = None) -> dict[str, object]:
    """Of an images table. Without `sha256` only the pixels count."""
    return {"uri": uri, "sha256": sha256, "rotation": 0}


def _spot(image: Image.Image) -> Image.Image:
    """The same graphic with one detail changed: a still camera's next frame, or a sibling in a clip-art family."""
    changed = image.copy()
    ImageDraw.Draw(changed).ellipse((100, 60, 122, 82), fill=(250, 250, 20))
    return changed


BASE = scene(3, SIZE)
CASES = [
    ("jpeg", _encode(BASE, "JPEG", quality=60), True),
    ("webp", _encode(BASE, "WEBP", quality=70), True),
    ("half size", _encode(BASE.resize((120, 90))), True),
    ("double size, jpeg", _encode(BASE.resize((480, 360)), "JPEG", quality=85), True),
    ("another scene", _encode(scene(4, SIZE)), False),
    ("crop", _encode(BASE.crop((12, 9, 228, 171))), False),
    ("mirrored", _encode(BASE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), False),
    ("shifted", _encode(BASE.transform(SIZE, Image.Transform.AFFINE, (1, 0, 6, 0, 1, 4))), False),
    ("one detail", _encode(_spot(BASE)), False),
    ("brighter", _encode(ImageEnhance.Brightness(BASE).enhance(1.15)), False),
    ("recoloured", _encode(Image.merge("RGB", BASE.split()[::-1])), False),
    ("stretched", _encode(BASE.resize((300, 180))), False),
]


@pytest.mark.parametrize(("name", "data", "same"), CASES, ids=[case[0] for case in CASES])
def test_what_counts_as_the_same_picture(tmp_path, name, data, same):
    (tmp_path / "a").write_bytes(_encode(BASE))
    (tmp_path / "b").write_bytes(data)
    pair = (_row("a"), _row("b"), 0.95)
    assert find_duplicates([pair], lambda uri: str(tmp_path / uri)) == [same]


def test_same_bytes_need_no_score_and_no_file():
    row = _row("gone.png", "1")
    assert find_duplicates([(row, dict(row), 0.1)], str) == [True]


def test_low_scores_are_no_duplicates_and_unreadable_files_are_unknown(tmp_path):
    (tmp_path / "a").write_bytes(_encode(BASE))
    (tmp_path / "broken").write_bytes(b"\x89PNG nothing")
    first, broken, gone, copy = (_row(uri) for uri in ("a", "broken", "gone", "a"))
    pairs = [(first, copy, DUPLICATE_SCORE - 0.01), (first, broken, 0.99), (gone, first, 0.99), (first, copy, 0.99)]
    assert find_duplicates(pairs, lambda uri: str(tmp_path / uri)) == [False, None, None, True]


def test_a_file_that_changed_since_the_ingest_is_unknown(tmp_path):
    data = _encode(BASE.resize((120, 90)))
    (tmp_path / "a").write_bytes(_encode(BASE))
    for name in ("same", "changed"):
        (tmp_path / name).write_bytes(data)
    same, changed = _row("same", sha256(data).hexdigest()), _row("changed", sha256(b"when ingested").hexdigest())
    pairs = [(_row("a"), same, 0.99), (_row("a"), changed, 0.99)]
    assert find_duplicates(pairs, lambda uri: str(tmp_path / uri)) == [True, None]


def test_rotation_of_the_table_is_applied(tmp_path):
    (tmp_path / "a").write_bytes(_encode(BASE))
    (tmp_path / "b").write_bytes(_encode(BASE.transpose(Image.Transpose.ROTATE_90)))  # counter-clockwise
    first, turned = _row("a"), _row("b") | {"rotation": 90}
    pairs = [(first, turned, 0.9), (first, turned | {"rotation": 0}, 0.9)]
    assert find_duplicates(pairs, lambda uri: str(tmp_path / uri)) == [True, False]


def test_thresholds_are_what_the_module_says():
    flat = np.full((32, 32, 3), 100, np.float32)

    def verdict(pixels, aspect=1.0):
        return near_exact(Thumbnail(flat, 1.0), Thumbnail(pixels, aspect))

    assert verdict(flat + (MEAN_DIFFERENCE - 0.01)) and not verdict(flat + (MEAN_DIFFERENCE + 0.1))
    tile = flat.copy()
    tile[8:12, 24:28] += TILE_DIFFERENCE - 0.01
    assert verdict(tile)
    tile[8:12, 24:28] += 0.1
    assert not verdict(tile)
    blue = flat.copy()
    blue[:8, :8, 2] += COLOUR_DIFFERENCE - 0.01  # 10 in blue is 1.1 in grey
    assert verdict(blue)
    blue[:8, :8, 2] += 0.1
    assert not verdict(blue)
    assert verdict(flat, 1 + ASPECT_TOLERANCE - 1e-6) and not verdict(flat, 1 - ASPECT_TOLERANCE - 0.01)


def test_images_that_were_never_opened_have_no_bytes_in_common():
    row = _row("gone.png")
    assert find_duplicates([(row, dict(row), 0.1)], str) == [False]


@pytest.mark.parametrize(
    ("name", "options"),
    [("BMP", {}), ("TIFF", {}), ("GIF", {}), ("PNG", {"compress_level": 1}), ("WEBP", {"lossless": True})],
)
def test_same_pixels_in_another_file(tmp_path, name, options):
    few = BASE.quantize(64).convert("RGB")  # GIF holds it without loss
    (tmp_path / "a").write_bytes(_encode(few))
    (tmp_path / "b").write_bytes(_encode(few, name, **options))
    pair = (_row("a"), _row("b"), 0.9)
    assert find_duplicates([pair], lambda uri: str(tmp_path / uri)) == [True]


SCRIPT = """
import sys, time
from pathlib import Path
from ndec_builder.candidates import duplicates
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
duplicates.PAIRS_PER_SHARD = 5
real = duplicates.find_duplicates
def slowly(pairs, resolve):
    time.sleep(0.3)
    return real(pairs, resolve)
duplicates.find_duplicates = slowly
root = Path(sys.argv[1])
rows = [{"uri": name, "sha256": None, "rotation": 0} for name in "aabbcc"]
duplicates.check_pairs(Workspace(root), root / "marks", [(rows[0], row, 0.9) for row in rows * 3], Engine(workers=1))
"""


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    for name, picture in (("a", BASE), ("b", BASE.resize((120, 90))), ("c", scene(9, SIZE))):
        (tmp_path / name).write_bytes(_encode(picture))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (done := list((tmp_path / "marks").rglob("*.done.json"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert done
    monkeypatch.setattr(duplicates, "PAIRS_PER_SHARD", 5)
    rows = [_row(name) for name in "aabbcc"]
    marks = duplicates.check_pairs(
        Workspace(tmp_path), tmp_path / "marks", [(rows[0], row, 0.9) for row in rows * 3], Engine(workers=1)
    )
    assert marks == [True, True, True, True, False, False] * 3
    assert "of 4 shards are already done" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "marks").exists()


FONT = ImageFont.load_default(22)


def _invoice(number: int, total: str = "") -> Image.Image:
    """A page with the same frame for all; text lines of its own, or only a total of its own."""
    page = Image.new("RGB", (827, 1169), "white")
    draw = ImageDraw.Draw(page)
    draw.text((60, 60), "ACME Ltd.   Invoice", font=FONT, fill=0)
    rng = np.random.default_rng(0 if total else number)
    for line in range(9):
        words = "".join(chr(97 + letter) for letter in rng.integers(0, 26, 24))
        draw.text((60, 200 + 30 * line), f"{words}   {rng.integers(10, 99)}.00", font=FONT, fill=0)
    draw.text((600, 700), total or f"Total {rng.integers(100, 999)}", font=FONT, fill=0)
    return page


def _logo(number: int) -> Image.Image:
    """White lettering on transparency."""
    logo = Image.new("RGBA", (400, 200), (255, 255, 255, 0))
    ImageDraw.Draw(logo).text((60, 60), f"Brand {number * 37}", font=ImageFont.load_default(50), fill=(255,) * 4)
    return logo


def _compare(folder, first: bytes, second: bytes) -> bool:
    (folder / "a").write_bytes(first)
    (folder / "b").write_bytes(second)
    rows = [_row(name) for name in "ab"]
    return find_duplicates([(*rows, 0.99)], lambda uri: str(folder / uri))[0]


def _family(make) -> list[bytes]:
    return [_encode(make(number)) for number in range(1, 7)]


def _blank_start(number: int) -> bytes:
    frames = [Image.new("RGB", (80, 60), "white"), scene(number, (80, 60))]
    return _encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=200)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        _family(_invoice),
        _family(lambda number: _invoice(0, f"Total {number}28")),
        _family(_logo),
        _family(lambda number: Image.eval(_invoice(number), lambda value: 255 - (255 - value) // 25)),
        [_blank_start(number) for number in range(1, 7)],
    ],
    ids=["invoices", "one digit", "white logos", "faint text", "animations with a blank start"],
)
def test_pictures_that_are_nearly_empty_as_thumbnails_go_to_a_person(tmp_path, family):
    found = [_compare(tmp_path, a, b) for a, b in itertools.combinations(family, 2)]
    assert found == [False] * 15


@pytest.mark.slow
@pytest.mark.parametrize("make", [_invoice, _logo, lambda _: Image.new("RGB", (300, 200), "white")])
@pytest.mark.parametrize("form", [("PNG", {}), ("WEBP", {"quality": 80}), ("half", {})])
def test_their_copies_are_still_duplicates(tmp_path, make, form):
    picture, (name, options) = make(1), form
    copy = picture.resize((picture.width // 2, picture.height // 2)) if name == "half" else picture
    data = _encode(copy, "PNG" if name == "half" else name, **options)
    assert _compare(tmp_path, _encode(picture), data)


def test_two_colours_of_equal_brightness_are_told_apart(tmp_path):
    dots = []
    for colour in ((200, 0, 0), (0, 102, 0)):
        dot = Image.new("RGB", (600, 400), "white")
        ImageDraw.Draw(dot).text((50, 50), "Sale", font=ImageFont.load_default(60), fill=0)
        ImageDraw.Draw(dot).ellipse((300, 200, 312, 212), fill=colour)
        dots.append(_encode(dot))
    assert not _compare(tmp_path, *dots)
