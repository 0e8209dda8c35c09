"""The labelling page in Chromium: opening it, measuring it, waiting for it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.core.storage import read_json
from support.needs import missing

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# The boxes of the pictures and choices, as [left, top, right, bottom] in pixels, and the page's text.
LAYOUT = """() => {
  const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  return {
    pictures: [...document.querySelectorAll('.ndec img')].map(box),
    frames: [...document.querySelectorAll('.ndec .lsf-image')].map(box),
    choices: [...document.querySelectorAll('.ndec .lsf-choice__item')].map(box),
    buttons: [...document.querySelectorAll('#ndec-buttons button')].filter((e) => e.offsetHeight).map(box),
    names: [...document.querySelectorAll('.ndec input[type=radio]')].map((e) => e.name),
    alt: [...document.querySelectorAll('.ndec img')].map((e) => e.alt),
    line: box(document.querySelector('#ndec-keys')),
    keys: [...document.querySelectorAll('#ndec-keys > *')].filter((e) => e.offsetHeight).map(box),
    position: document.querySelector('#ndec-position')?.textContent,
    scroll: document.documentElement.scrollWidth,
    text: document.body.innerText,
  };
}"""


@contextlib.contextmanager
def labelling(connection: Connection, project: int) -> Iterator[Any]:
    """A page of Chromium that is logged in and shows the first pair of the project."""
    chromium = shutil.which("chromium") or missing("no chromium for the browser test: install the package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    password = read_json(connection.secrets)["password"] if connection.secrets else ""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(connection.url)
        page.fill("input[name=email]", connection.user)
        page.fill("input[name=password]", password)
        page.press("input[name=password]", "Enter")
        page.wait_for_selector("input[name=password]", state="detached")
        page.goto(f"{connection.url}/projects/{project}/data?labeling=1")
        yield page
        browser.close()


def measure_layout(page: Any, width: int, height: int) -> dict[str, Any]:
    """The layout in a window of this size, once the pictures have their final place. No part of them may be cut off."""
    page.set_viewport_size({"width": width, "height": height})
    before, layout = None, page.evaluate(LAYOUT)
    while before != layout:
        page.wait_for_timeout(500)
        before, layout = layout, page.evaluate(LAYOUT)
    for picture, frame in zip(layout["pictures"], layout["frames"], strict=True):
        left, top, right, bottom = (inner - outer for inner, outer in zip(picture, frame, strict=True))
        assert left >= -1 and top >= -1 and right <= 1 and bottom <= 1, (width, height, picture, frame)
    return dict(layout)


def fits(page: Any, selector: str) -> bool:
    """Whether an element is inside the window from left to right."""
    box = page.locator(selector).bounding_box()
    return bool(box["x"] >= 0 and box["x"] + box["width"] <= page.viewport_size["width"])


def wait_until_saved(page: Any) -> None:
    """Wait until the last label is saved: the pictures disappear earlier, keys work again only afterwards."""
    page.wait_for_function(
        "!document.documentElement.dataset.ndecBusy && document.querySelectorAll('.ndec img').length === 0",
        timeout=60_000,
    )


def next_pair(page: Any, shown: str) -> str:
    """Wait until two new pictures are loaded and keys work; `shown` are the blob addresses of the pair before."""
    page.wait_for_function(
        """shown => {
          const images = [...document.querySelectorAll('.ndec img')];
          const loaded = images.length === 2 && images.every((i) => i.complete && i.naturalWidth > 0);
          return loaded && !document.documentElement.dataset.ndecBusy && images.map((i) => i.src).join(' ') !== shown;
        }""",
        arg=shown,
        timeout=30_000,
    )
    return str(page.evaluate("[...document.querySelectorAll('.ndec img')].map((i) => i.src).join(' ')"))
