"""Licence columns from copyright files of both kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.demo.corpus.copyright_files import parse_copyright, read_copyright, stamp_title
from ndec_builder.demo.corpus.packages import Package

DEBIAN = """Format: copyright-format/1.0
Source: https://example.org/fish

Files: *
Copyright: 2010, 2011 by Ann <ann@example.org>
           2012 Bob
           2013-2015 Cid
           2016 Dot
License: GPL-3+

Files: src/fishes/fish1.jpg
       src/fishes/fish2.png
Copyright: Duane Raver, 2018
License: CC-BY-2.0
 full text here
Comment: https://example.org/File:Bowfin.jpg and more

Files: doc/*
Copyright: Nobody
License: GFDL-1.2+

License: GPL-3+
 On Debian systems ...
"""


@pytest.mark.parametrize(
    ("path", "license", "author", "original_url"),
    [
        ("src/fishes/fish1.webp", "CC-BY-2.0", "Duane Raver", "https://example.org/File:Bowfin.jpg"),
        ("packed/src/fishes/fish2.webp", "CC-BY-2.0", "Duane Raver", "https://example.org/File:Bowfin.jpg"),
        ("src/fishes/fish3.webp", "GPL-3+", "Ann <ann@example.org>; Bob; Cid et al.", None),
        ("samples/doc/x.png", "GPL-3+", "Ann <ann@example.org>; Bob; Cid et al.", None),
        ("doc/x.png", "GFDL-1.2+", "Nobody", None),
    ],
)
def test_the_last_matching_stanza_counts(path: str, license: str, author: str, original_url: str | None) -> None:
    columns = parse_copyright(DEBIAN).columns(path)
    assert columns["license"] == license
    assert columns["author"] == author
    assert columns["original_url"] == original_url
    assert columns["landing_url"] == (original_url or "https://example.org/fish")


def test_a_moved_file_is_found_by_name_when_nothing_else_matches() -> None:
    text = "Format: x\n\nFiles: 16.04/sunset.jpg\nCopyright: Ann, 2018\nLicense: CC-BY-4.0\n"
    assert parse_copyright(text).columns("backgrounds/sunset.jpg")["license"] == "CC-BY-4.0"
    assert parse_copyright(text).columns("backgrounds/other.jpg")["license"] is None


def test_plain_text_and_wheels(tmp_path: Path) -> None:
    package = Package("p", "1", "apt", "0" * 64, tmp_path)
    assert read_copyright(package).columns("x.png")["license"] is None
    (tmp_path / "METADATA").write_text("Name: p\nHome-page: https://example.org/p\nLicense: BSD\n\nLong text\n")
    columns = read_copyright(package).columns("x.mp4")
    assert columns["license"] == "package: BSD; the clip's own licence is not stated"
    assert columns["landing_url"] == "https://example.org/p"
    (tmp_path / "copyright").write_text("Downloaded from http://example.org/art\nPublic Domain Dedication\n")
    columns = read_copyright(package).columns("x.png")
    assert (columns["license"], columns["landing_url"]) == ("public domain dedication", "http://example.org/art")


def test_stamp_titles(tmp_path: Path) -> None:
    (tmp_path / "crow.txt").write_text("A crow.\nfr.utf8=Un corbeau.\n")
    assert stamp_title(tmp_path / "crow.png") == "A crow."
    assert stamp_title(tmp_path / "owl.png") is None
