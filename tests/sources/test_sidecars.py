"""Json and txt members of a tar: which image each of them describes, wherever it is in the shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.ingesting import Ingested, picture, write_tar


def about(author: str, **more: Any) -> bytes:
    return json.dumps({"author": author, "license": "CC0-1.0", "group": f"g-{author}", **more}).encode()


@pytest.mark.parametrize("order", ["images first", "sidecars first", "in pairs", "reversed sidecars"])
def test_the_order_of_the_members_does_not_matter(tmp_path: Path, order: str) -> None:
    images = {f"{i:04d}.jpg": picture(i) for i in range(12)}
    texts = {f"{i:04d}.json": about(f"a{i}") for i in range(12)}
    files = {
        "images first": images | texts,
        "sidecars first": texts | images,
        "in pairs": dict(sorted((images | texts).items())),
        "reversed sidecars": images | dict(reversed(texts.items())),
    }[order]
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files))
    assert found.column("author") == {f"{i:04d}": f"a{i}" for i in range(12)}
    assert found.column("group") == {f"{i:04d}": f"g-a{i}" for i in range(12)}
    assert found.notes == ""


def test_the_full_name_counts_before_the_key(tmp_path: Path) -> None:
    """`IMG_2020.01.jpg` and `IMG_2020.02.jpg` have one WebDataset key, and a sidecar each."""
    files = {"IMG_2020.01.jpg": picture(1), "IMG_2020.02.jpg": picture(2)}
    files |= {"IMG_2020.02.json": about("two"), "IMG_2020.01.json": about("one"), "IMG_2020.03.json": about("three")}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files))
    assert found.column("author") == {"IMG_2020.01": "one", "IMG_2020.02": "two"}
    assert "1 json or txt member belongs to no image: IMG_2020.03.json" in found.notes


def test_a_key_describes_all_its_images_and_an_exact_name_adds_to_it(tmp_path: Path) -> None:
    files = {"x/7.left.jpg": picture(1), "x/7.right.jpg": picture(2), "y/7.jpg": picture(3)}
    files |= {"x/7.json": about("both"), "y/7.meta.json": about("other"), "x/7.left.txt": b"the left one"}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files))
    assert found.column("author") == {"7.left": "both", "7.right": "both", "7": "other"}
    assert found.column("title") == {"7.left": "the left one", "7.right": None, "7": None}


def test_the_name_of_the_image_with_its_ending(tmp_path: Path) -> None:
    """As Google Takeout names them. `a.jpg` and `a.png` are two pictures of one key."""
    files = {"a.jpg": picture(1), "a.png": picture(2, "PNG"), "b.jpg": picture(3)}
    files |= {"a.png.json": about("png"), "a.jpg.json": about("jpg"), "b.jpg.meta.json": about("b")}
    found = Ingested(tmp_path, write_tar(tmp_path / "x.tar", files))
    assert found.column("author") == {"a.jpg": "jpg", "a.png": "png", "b.jpg": "b"} and "no image" not in found.notes


def test_other_folders_and_broken_sidecars_are_reported(tmp_path: Path) -> None:
    files = {f"img/{i}.jpg": picture(i) for i in range(3)} | {f"meta/{i}.json": about("a") for i in range(3)}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files | {"img/0.json": b"{"}))
    assert found.column("author") == {"0": None, "1": None, "2": None}
    assert "3 json or txt members belong to no image: meta/0.json, meta/1.json, meta/2.json" in found.notes
    assert "1 json member is no JSON object and is ignored: img/0.json" in found.notes
    assert "2 images have no json or txt member: img/1.jpg, img/2.jpg" in found.notes


def test_a_leading_dot_and_hidden_files(tmp_path: Path) -> None:
    files = {"./a.jpg": picture(1), "b.jpg": picture(2), ".h.jpg": picture(3)}
    files |= {"a.json": about("a"), "./b.json": about("b"), ".h.json": about("h")}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files))
    assert found.column("author") == {".h": "h", "a": "a", "b": "b"}


def test_a_byte_order_mark_and_capital_endings(tmp_path: Path) -> None:
    files = {"A.JPG": picture(1), "A.JSON": b"\xef\xbb\xbf" + about("a")}
    assert Ingested(tmp_path, write_tar(tmp_path / "a.tar", files)).column("author") == {"A": "a"}


def exif_tag(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("described", "degrees"),
    [("Rotated 90 CW", 90), ("Rotated 180", 180), ("Rotated 90 CCW", 270), ("Horizontal (normal)", 0), ("", 0)],
)
def test_img2dataset_says_how_a_photo_without_a_tag_is_rotated(tmp_path: Path, described: str, degrees: int) -> None:
    """As img2dataset 1.47 writes it: a text of json, which itself holds exifread's name of the orientation."""
    exif = json.dumps({"Image Orientation": described, "Image Make": "X"} if described else {})
    files = {"0.jpg": picture(1), "0.json": about("a", exif=exif), "1.jpg": picture(2)}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files))
    assert found.column("rotation") == {"0": degrees, "1": 0}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_photo_that_has_its_tag_is_rotated_once(tmp_path: Path, format: str) -> None:
    data = picture(1, format, exif=exif_tag(6))
    files = {f"0.{format.lower()}": data, "0.json": about("a", exif=json.dumps({"Image Orientation": "Rotated 90 CW"}))}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files))
    assert (found.rows["0"]["rotation"], found.rows["0"]["width"], found.rows["0"]["height"]) == (0, 36, 48)


def test_a_mirrored_photo_is_named(tmp_path: Path) -> None:
    exif = json.dumps({"Image Orientation": "Mirrored horizontal then rotated 90 CW"})
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", {"0.jpg": picture(1), "0.json": about("a", exif=exif)}))
    assert found.column("rotation") == {"0": 0} and "1 image is mirrored according to the metadata" in found.notes
