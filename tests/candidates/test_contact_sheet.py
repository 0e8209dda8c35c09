from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

from ndec_builder.candidates.contact_sheet import THUMBNAIL_SIDE, write_contact_sheet
from pictures import scene

HOSTILE = '<script>alert("x")</script>'


def _rows(tmp_path, names):
    rows = {}
    for seed, name in enumerate(names):
        path = tmp_path / f"{seed}.png"
        scene(seed, (400, 100)).save(path)
        rows[name] = {"uri": str(path), "rotation": 0}
    return rows


class Images(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict] = []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes))


def _sheet(tmp_path, **options):
    queries, references = _rows(tmp_path, [HOSTILE, "q1"]), _rows(tmp_path, ["r0"])
    references["gone"] = {"uri": str(tmp_path / "gone.png"), "rotation": 0}
    pairs = [(HOSTILE, "r0", "r0"), ("q1", "gone", None)]
    rows = [
        {"pair_id": f"{rank:016x}", "query_id": q, "reference_id": r, "score": 0.5, "rank": rank, "duplicate_of": d}
        for rank, (q, r, d) in enumerate(pairs, 1)
    ]
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, rows, queries, references, str, title="T & co", roles=("pool", "reference"), **options)
    return path.read_text("utf-8")


def test_page_is_self_contained_and_escaped(tmp_path):
    page = _sheet(tmp_path)
    assert HOSTILE not in page and "&lt;script&gt;" in page and "T &amp; co" in page
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", page)
    parser = Images()
    parser.feed(page)
    assert len(parser.found) == 3  # the fourth cannot be read, and says so
    assert "reference cannot be read" in page
    for image in parser.found:
        assert image["alt"] and image["loading"] == "lazy"
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",", 1)[1])))
        assert picture.format == "JPEG" and max(picture.size) <= THUMBNAIL_SIDE


def test_duplicates_are_marked_and_counted(tmp_path):
    page = _sheet(tmp_path)
    assert page.count('class="duplicate"') == 1
    assert "2 pairs, best score first, 1 of them duplicates." in page


def test_cap_is_said(tmp_path):
    page = _sheet(tmp_path, max_pairs=1)
    assert page.count("<figure") == 1
    assert "the first 1 are shown here" in page
