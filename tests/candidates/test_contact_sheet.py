from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ndec_builder.candidates.contact_sheet import THUMBNAIL_SIDE, write_contact_sheet, write_decisions
from ndec_builder.core.decode import decode
from ndec_builder.core.storage import _here, sha256_file
from support.needs import missing
from support.odd_pictures import ODD, PLAIN
from support.pictures import scene

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
    assert "1 pair for people to label, best score first, then 1 duplicate that nobody labels." in page


def test_pairs_for_people_come_before_duplicates(tmp_path):
    page = _sheet(tmp_path)  # the duplicate has rank 1
    ids = re.findall(r'<figure[^>]* id="(\w+)"', page)
    assert ids == [f"{rank:016x}" for rank in (2, 1)]
    heading = page.index("<h2>Duplicates")
    assert page.index(ids[0]) < heading < page.index(f'id="{ids[1]}"')
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["pair"] == ids and data["rank"] == [2, 1]


def test_decisions_are_written_for_the_page(tmp_path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    left = tmp_path / f".contact_sheet_decisions-{_here()}-{killed.pid}-0.partial.js"
    left.touch()
    path = write_decisions(tmp_path, {"b": "hard_negative", "a": "edited_copy", "c": None})
    assert not left.exists(), "of a killed `resolve`"
    assert path.read_text("utf-8") == 'window.ndecDecisions = {"a":"edited_copy","b":"hard_negative"};\n'
    assert f'"decisions":"{path.name}"' in _sheet(tmp_path)


def test_cap_is_said(tmp_path):
    page = _sheet(tmp_path, max_pairs=1)
    assert page.count("<figure") == 1
    assert "this page contains the pictures of the first 1" in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["rank"] == [2, 1] and data["query"] == ["q1", HOSTILE] and data["duplicate"] == [0, 1]
    assert data["files"][data["query_file"][1]] == "0.png" and data["query_file"][0] is None


PAIRS = 50_000
SCROLL = """() => new Promise((done) => {
  let left = 60;
  const step = () => { window.scrollBy(0, 4000); if (left-- > 0) requestAnimationFrame(step); else done(); };
  requestAnimationFrame(step);
})"""
FIRST = """[...document.querySelectorAll('figure')]
  .sort((a, b) => a.offsetTop - b.offsetTop || a.offsetLeft - b.offsetLeft)[0]?.innerText"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A sheet of 50,000 pairs; the pictures of the first 20 are inside it."""
    folder = tmp_path_factory.mktemp("large")
    queries, references = {}, {}
    for i in range(200):
        for name, table in (("q", queries), ("r", references)):
            path = folder / f"{name}{i}.png"
            scene(i, (160, 120)).save(path)
            table[f"{name}{i}"] = {"uri": str(path), "rotation": 0}
    for i in range(200, PAIRS):
        queries[f"q{i}"] = queries[f"q{i % 200}"]
    rows = [
        {
            "pair_id": f"{i:016x}", "query_id": f"q{i}", "reference_id": f"r{i * 7 % 200}", "rank": i + 1,
            "score": 1 - i / PAIRS, "duplicate_of": "x" if i % 10 == 0 else None, "same_author": i % 4 == 0,
            "inliers": i * 37 % 101, "query_inside": (i * 13 % 1000) / 1000, "local_correlation": None,
        }
        for i in range(PAIRS)
    ]  # fmt: skip
    path = folder / "sheet.html"
    write_contact_sheet(path, rows, queries, references, str, title="T", roles=("pool", "reference"), max_pairs=20)
    write_decisions(folder, {rows[3]["pair_id"]: "hard_negative", rows[4]["pair_id"]: "unrelated"})
    return path


@pytest.mark.browser
def test_fifty_thousand_pairs_are_filtered_sorted_and_scrolled_without_freezing(large):
    chromium = shutil.which("chromium") or missing("no chromium for the browser test: install the package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(large.as_uri())
        page.wait_for_function("document.getElementById('shown').textContent === '50,000 of 50,000 pairs'")
        browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline"])
        page.evaluate(SCROLL)
        page.select_option("#sort", "query_inside")
        page.wait_for_function(f"{FIRST}?.startsWith('924 ')", timeout=20_000)  # 923 * 13 % 1000 = 999
        page.fill("#text", "Q4999")
        page.select_option("#duplicates", "0")
        page.wait_for_function("document.getElementById('shown').textContent.startsWith('10 of')", timeout=20_000)
        page.fill("#text", "")
        page.select_option("#sort", "rank")
        page.check("#turned")
        page.wait_for_function(f"{FIRST}?.startsWith('50000 ')", timeout=20_000)
        page.select_option("#decision", "hard_negative")  # of the two decisions below
        page.wait_for_function(f"{FIRST}?.includes('hard negative')", timeout=20_000)
        page.wait_for_function("document.getElementById('shown').textContent.startsWith('1 of')", timeout=20_000)
        page.select_option("#decision", "")
        page.evaluate("window.scrollTo(0, document.body.scrollHeight / 2)")
        page.evaluate(SCROLL)
        in_page = page.evaluate("document.querySelectorAll('figure').length")
        loaded = page.evaluate("[...document.querySelectorAll('figure img')].filter((i) => i.naturalWidth > 0).length")
        trace = json.loads(browser.stop_tracing())
        browser.close()
    tasks = [event for event in trace["traceEvents"] if event.get("ph") == "X" and event["name"].endswith("RunTask")]
    assert len(tasks) > 100
    # by the time that the page's thread used the processor: other tests may hold the machine
    longest = max(event.get("tdur", event["dur"]) for event in tasks) / 1000
    assert longest <= 200, f"the page stood still for {longest:.0f} ms"
    assert in_page < 60 and loaded > 0


@pytest.mark.slow
def test_pictures_beyond_the_first_are_those_that_the_models_see(tmp_path):
    """A file is linked only if every browser shows it as `decode` does; the others have a thumbnail."""
    files = {"plain": PLAIN["PNG"](), "turned": PLAIN["JPEG"]()}
    files |= {f"odd{i}": make() for i, make in enumerate(ODD.values())}
    rows = {}
    for name, content in files.items():
        path = tmp_path / f"{name}.bin"
        path.write_bytes(content)
        rows[name] = {"uri": str(path), "rotation": 90 if name == "turned" else 0}
    pairs = [
        {"pair_id": f"{i:016x}", "query_id": name, "reference_id": "plain", "score": 1.0001, "rank": i,
         "duplicate_of": None}
        for i, name in enumerate(files, 1)
    ]  # fmt: skip
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, pairs, rows, rows, str, title="T", roles=("pool", "reference"), max_pairs=1)
    page = path.read_text("utf-8")
    assert "score 1.0000" in page and "1.0001 <" not in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["files"][data["reference_file"][1]] == "plain.bin"
    for name, file in list(zip(data["query"], data["query_file"], strict=True))[1:]:
        link = data["files"][file]
        assert link.startswith("contact_sheet_pictures/")
        expected = decode(files[name], rows[name]["rotation"])
        expected.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        shown = Image.open(tmp_path / link)
        assert shown.size == expected.size
        assert np.abs(np.asarray(shown, float) - np.asarray(expected, float)).mean() < 12


def test_a_picture_that_changed_since_its_ingest_has_no_thumbnail(tmp_path):
    """Beyond the first pairs too: the page must not show a picture that nobody mined."""
    rows = {}
    for name, ingested in (("kept", None), ("same", "own"), ("changed", "0" * 64)):
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(PLAIN["JPEG"]())
        sha256 = sha256_file(path) if ingested == "own" else ingested
        rows[name] = {"uri": str(path), "rotation": 90, "sha256": sha256}  # turned: the page shows a thumbnail
    pairs = [
        {"pair_id": f"{i:016x}", "query_id": name, "reference_id": name, "score": 1.0, "rank": i, "duplicate_of": None}
        for i, name in enumerate(rows, 1)
    ]
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, pairs, rows, rows, str, title="T", roles=("pool", "reference"), max_pairs=0)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"),
                                re.DOTALL)[1])  # fmt: skip
    assert [file is not None for file in data["query_file"]] == [True, True, False]


def test_without_copies_no_picture_is_in_the_page_or_next_to_it(tmp_path):
    """The readable file is shown from its place; a picture that needs a thumbnail is not."""
    page = _sheet(tmp_path, copies=False)
    assert "data:image" not in page and "this page contains no pictures" in page
    assert not (tmp_path / "contact_sheet_pictures").exists()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["query"] == ["q1", HOSTILE]
    assert not re.search(r"[A-Za-z0-9+/]{200}", page)  # base64 of a picture
