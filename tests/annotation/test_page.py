"""The labelling page in a real browser: one key a pair, and the labels land where they belong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from needs import missing

from ndec_builder.annotation import projects, pull, push
from ndec_builder.annotation.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.core.schemas import pair_id
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace

pytestmark = [pytest.mark.server, pytest.mark.browser]
KEYS = {"1": "edited_copy", "2": "hard_negative", "3": "unrelated", "4": "unsure"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SCREENSHOT = Path(__file__).parents[2] / "test-artefacts" / "annotation_page.png"
# Two pictures shown whole, side by side, and the choices above them, without scrolling.
LAYOUT = """() => {
  const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  return {
    pictures: [...document.querySelectorAll('.ndec img')].map(box),
    choices: [...document.querySelectorAll('.ndec .lsf-choice__item')].map(box),
  };
}"""


def test_one_key_labels_a_pair(served: tuple[Workspace, Connection], make_candidates: Any) -> None:
    chromium = shutil.which("chromium") or missing("no chromium for the browser test: install the package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api") if chromium else None
    workspace, connection = served
    pairs = make_candidates(workspace, count=6, size=(1024, 768))
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url))
    key = projects.project_key(workspace, "test", "first", "ann")
    project = projects.find_projects(connection.client())[key]
    password = read_json(connection.secrets)["password"] if connection.secrets else ""
    pressed = ["2", "1", "3", "4", "2"]

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(connection.url)
        page.fill("input[name=email]", connection.user)
        page.fill("input[name=password]", password)
        page.press("input[name=password]", "Enter")
        page.wait_for_selector("input[name=password]", state="detached")
        page.goto(f"{connection.url}/projects/{project.id}/data?labeling=1")
        shown = ""
        for index, digit in enumerate(pressed):
            shown = _next_pair(page, shown)
            if index == 0:
                SCREENSHOT.parent.mkdir(exist_ok=True)
                page.screenshot(path=str(SCREENSHOT))
                layout = page.evaluate(LAYOUT)
            page.keyboard.press(digit)
            page.keyboard.press("3")  # an impatient second key must not land on this pair or the next
        _next_pair(page, shown)  # the last answer is saved
        browser.close()

    labels = read_table(pull.run(PullConfig(workspace.root))).to_pylist()
    assert {row["pair_id"]: row["label"] for row in labels} == {
        pair_id("test", *pair): KEYS[digit] for pair, digit in zip(pairs, pressed, strict=False)
    }
    assert all(row["seconds"] > 0 for row in labels)
    (left, _, left_end, left_bottom), (right, _, right_end, right_bottom) = layout["pictures"]
    assert left < left_end <= right < right_end <= 1440 and max(left_bottom, right_bottom) <= 900
    assert min(left_end - left, right_end - right) > 600, "the pictures are small"
    assert len(layout["choices"]) == 4 and all(0 < box[1] < 200 for box in layout["choices"])


def _next_pair(page: Any, shown: str) -> str:
    """Wait until two whole pictures other than `shown` are there; Label Studio gives each a fresh blob address."""
    page.wait_for_function(
        """shown => {
          const images = [...document.querySelectorAll('.ndec img')];
          const there = images.length === 2 && images.every((i) => i.complete && i.naturalWidth > 0);
          return there && images.map((i) => i.src).join(' ') !== shown;
        }""",
        arg=shown,
        timeout=30_000,
    )
    return str(page.evaluate("[...document.querySelectorAll('.ndec img')].map((i) => i.src).join(' ')"))
