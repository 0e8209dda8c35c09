"""Names and metadata that are formulas, HTML or Markdown have no effect in the files that ndec writes."""

from __future__ import annotations

import csv
import io
import re
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from faults.fault_bench import decide
from faults.zoo_archives import PAYLOADS, put
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits.make import run as edit
from ndec_builder.edits.settings import EditConfig
from ndec_builder.evaluation.benchmark import run as benchmark
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.sources.ingest import run as ingest
from ndec_builder.sources.settings import IngestConfig
from support.pictures import textured

pytestmark = pytest.mark.slow

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _shard(path: Path, first_seed: int, side: int) -> Path:
    """One picture for each payload: in its name, and in all that is said of it."""
    import json

    with tarfile.open(path, "w") as tar:
        for number, text in enumerate(PAYLOADS):
            picture = io.BytesIO()
            textured(first_seed + number, (128, 96)).crop((side, side, 128 - side, 96 - side)).save(picture, "PNG")
            name = f"{text.replace('/', '∕').replace(chr(0), '').replace('.', '․')}{first_seed}x{number}"
            put(tar, f"{name}.png", picture.getvalue())
            facts = dict.fromkeys(("author", "author_url", "title", "license", "original_url", "landing_url"), text)
            put(tar, f"{name}.json", json.dumps(facts).encode())
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of such pictures, mined, decided, exported and evaluated."""
    folder = tmp_path_factory.mktemp("injection")
    root = folder / "bench"
    for role, side in (("reference", 0), ("pool", 3)):
        source = _shard(folder / f"{role}.tar", 0, side)
        ingest(IngestConfig(root, role, source, kind="tar", max_reject_share=1.0))
    source = _shard(folder / "basic.tar", 500, 0)
    ingest(IngestConfig(root, "basic", source, kind="tar", max_reject_share=1.0))
    edit(EditConfig(root, count=8))
    mine(MineConfig(root, top=12, workers=1))
    decide(root)
    manifest = export(ExportConfig(root, name="odd", authors="<script>alert(1)</script>; =1+1; - [x](javascript:1)"))
    benchmark(
        BenchmarkConfig(workspace=root, manifest=manifest, model=("efficientnet-lite0",), replicates=100, name="odd")
    )
    return root


class _Page(HTMLParser):
    """What a browser would run or follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags = 0
        self.in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags += 1
        for name, value in attrs:
            leads = name in ("href", "src", "action", "formaction", "data", "xlink:href", "srcdoc")
            if name.startswith("on") or (leads and (value or "").strip().lower().startswith("javascript:")):
                self.found.append(f"<{tag} {name}={value!r}>")
        data = dict(attrs).get("type") == "application/json"
        if tag in ("iframe", "object", "embed", "base") or (tag == "script" and attrs and not data):
            self.found.append(f"<{tag} {attrs}>")
        self.in_script = tag == "script" and not data  # the page's own, without anything from outside in it

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script and any(text in data for text in ("alert(", "HYPERLINK", "DROP TABLE")):
            self.found.append(f"a script with {data[:200]!r}")


def _looked_at(text: str) -> list[str]:
    page = _Page()
    page.feed(text)
    assert page.tags > 10
    return page.found


def test_pages_run_nothing(made: Path) -> None:
    for path in (made / "candidates" / "test" / "contact_sheet.html", made / "reports" / "odd" / "report.html"):
        text = path.read_text("utf-8")
        assert "alert(1)" in text or "HYPERLINK" in text, f"{path} shows no payload: the test would prove nothing"
        assert _looked_at(text) == [], path


def test_pictures_of_a_report_hold_no_markup(made: Path) -> None:
    for path in (made / "reports" / "odd").rglob("*.svg"):
        assert "<script" not in path.read_text("utf-8").lower()


def test_csv_cells_are_no_formulas(made: Path) -> None:
    """But for ids and scores, on which programs join: ground_truth.csv and predictions.csv are exact by design."""
    path = made / "manifests" / "odd-1.0.0" / "ATTRIBUTION.csv"
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
    assert len(rows) > 2 * len(PAYLOADS)
    assert [cell for row in rows for cell in row if cell.startswith(FORMULA)] == []
    guarded = {cell for row in rows for cell in row if cell.startswith("'=")}
    assert guarded, "no payload reached the csv: the test would prove nothing"


def test_the_card_is_text(made: Path) -> None:
    card = (made / "manifests" / "odd-1.0.0" / "README.md").read_text("utf-8")
    assert "<script" not in card.lower() and not re.search(r"(?<!\\)\]\(javascript:", card)
    assert card.count("\n---\n") <= 2  # the YAML head ends where it should


def test_ids_come_through_whole(made: Path) -> None:
    ids = Workspace(made).read_images("reference")["image_id"].to_pylist()
    assert (
        any(i.startswith("=HYPERLINK") for i in ids) and any("<script>" in i for i in ids) and len(ids) == len(PAYLOADS)
    )
