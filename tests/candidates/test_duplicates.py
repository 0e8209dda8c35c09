from __future__ import annotations

import io
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

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
from ndec_builder.core.workspace import Workspace
from support.pictures import scene

SIZE = (240, 180)


def _encode(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


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
    pair = ({"uri": "a", "sha256": "1", "rotation": 0}, {"uri": "b", "sha256": "2", "rotation": 0}, 0.95)
    assert find_duplicates([pair], lambda uri: str(tmp_path / uri)) == [same]


def test_same_bytes_need_no_score_and_no_file():
    row = {"uri": "gone.png", "sha256": "1", "rotation": 0}
    assert find_duplicates([(row, dict(row), 0.1)], str) == [True]


def test_low_scores_and_unreadable_files_are_no_duplicates(tmp_path):
    (tmp_path / "a").write_bytes(_encode(BASE))
    (tmp_path / "broken").write_bytes(b"\x89PNG nothing")
    first, broken, gone = ({"uri": uri, "sha256": uri, "rotation": 0} for uri in ("a", "broken", "gone"))
    copy = {"uri": "a", "sha256": "other", "rotation": 0}
    pairs = [(first, copy, DUPLICATE_SCORE - 0.01), (first, broken, 0.99), (gone, first, 0.99), (first, copy, 0.99)]
    assert find_duplicates(pairs, lambda uri: str(tmp_path / uri)) == [False, False, False, True]


def test_rotation_of_the_table_is_applied(tmp_path):
    (tmp_path / "a").write_bytes(_encode(BASE))
    (tmp_path / "b").write_bytes(_encode(BASE.transpose(Image.Transpose.ROTATE_90)))  # counter-clockwise
    first, turned = {"uri": "a", "sha256": "1", "rotation": 0}, {"uri": "b", "sha256": "2", "rotation": 90}
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
    row = {"uri": "gone.png", "sha256": None, "rotation": 0}
    assert find_duplicates([(row, dict(row), 0.1)], str) == [False]


@pytest.mark.parametrize(
    ("name", "options"),
    [("BMP", {}), ("TIFF", {}), ("GIF", {}), ("PNG", {"compress_level": 1}), ("WEBP", {"lossless": True})],
)
def test_same_pixels_in_another_file(tmp_path, name, options):
    few = BASE.quantize(64).convert("RGB")  # GIF holds it without loss
    (tmp_path / "a").write_bytes(_encode(few))
    (tmp_path / "b").write_bytes(_encode(few, name, **options))
    pair = ({"uri": "a", "sha256": "1", "rotation": 0}, {"uri": "b", "sha256": "2", "rotation": 0}, 0.9)
    assert find_duplicates([pair], lambda uri: str(tmp_path / uri)) == [True]


SCRIPT = """
import sys, time
from pathlib import Path
from ndec_builder.candidates import duplicates
from ndec_builder.core.workspace import Workspace
duplicates.PAIRS_PER_SHARD = 5
real = duplicates.find_duplicates
def slowly(pairs, resolve):
    time.sleep(0.3)
    return real(pairs, resolve)
duplicates.find_duplicates = slowly
root = Path(sys.argv[1])
rows = [{"uri": name, "sha256": name, "rotation": 0} for name in "aabbcc"]
duplicates.check_pairs(Workspace(root), root / "marks", [(rows[0], row, 0.9) for row in rows * 3], 1)
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
    rows = [{"uri": name, "sha256": name, "rotation": 0} for name in "aabbcc"]
    marks = duplicates.check_pairs(
        Workspace(tmp_path), tmp_path / "marks", [(rows[0], row, 0.9) for row in rows * 3], 1
    )
    assert marks == [True, True, True, True, False, False] * 3
    assert "of 4 shards are already done" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "marks").exists()
