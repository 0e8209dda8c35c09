"""What people see is what the models see: pixels against `decode`, by Pillow here and by Chromium below."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.rendition import plain_type, render
from support.needs import missing
from support.odd_pictures import ODD, PLAIN
from support.pictures import scene

ALL = {**ODD, **PLAIN}
SAMPLES = {name: make() for name, make in ALL.items()}


def gap(one: Any, other: Any) -> float:
    """Mean difference of two pictures of one size in grey levels."""
    first, second = np.asarray(one, float), np.asarray(other, float)
    assert first.shape == second.shape
    return float(np.abs(first - second).mean())


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_is_passed_on_as_it_is(name: str) -> None:
    data = PLAIN[name]()
    assert render(data).body == data
    assert render(data).media_type == f"image/{name.split(',')[0].lower()}"


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_browsers_could_show_differently_is_rendered(name: str) -> None:
    data = ODD[name]()
    assert plain_type(io.BytesIO(data)) is None
    assert render(data).body != data


@pytest.mark.parametrize("name", ALL)
def test_a_rendition_is_plain_and_has_the_pixels_of_decode(name: str) -> None:
    data = ALL[name]()
    shown = render(data)
    assert plain_type(io.BytesIO(shown.body)) == shown.media_type
    assert gap(Image.open(io.BytesIO(shown.body)).convert("RGB"), decode(data)) <= (
        1.5 if shown.media_type == "image/jpeg" else 0
    )


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotation_is_applied(rotation: int) -> None:
    data = PLAIN["PNG"]()
    assert gap(Image.open(io.BytesIO(render(data, rotation).body)), scene(1).rotate(-rotation, expand=True)) == 0


@pytest.mark.slow
def test_large_pictures_become_jpeg() -> None:
    large = Image.new("RGBA", (2100, 2000), (10, 20, 30, 255))
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    assert render(buffer.getvalue()).media_type == "image/jpeg"


@pytest.mark.parametrize("name", PLAIN)
def test_a_cut_file_is_never_shown_as_half_a_picture(name: str) -> None:
    data = PLAIN[name]()
    for end in (20, 60, len(data) // 2):
        plain_type(io.BytesIO(data[:end]))  # never raises
        with pytest.raises(DecodeError):
            render(data[:end])


@given(st.sampled_from(sorted(ALL)), st.data())
def test_the_structure_of_damaged_files_never_raises(name: str, data: st.DataObject) -> None:
    content = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    plain_type(io.BytesIO(bytes(content[: data.draw(st.integers(0, len(content)))])))


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    chromium = shutil.which("chromium") or missing("no chromium for the browser test: install the package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 800, "height": 600})
        page.set_content("<body style='margin: 0; background: #000'><img id=i style='display: block'>")
        yield page
        browser.close()


def in_chromium(page: Any, body: bytes, media_type: str) -> Image.Image:
    """The picture as Chromium shows it in an <img> on a black page."""
    uri = f"data:{media_type};base64,{base64.b64encode(body).decode()}"
    page.evaluate("uri => { const i = document.getElementById('i'); i.src = uri; return i.decode(); }", uri)
    shot = Image.open(io.BytesIO(page.locator("#i").screenshot()))
    return shot.convert("RGB")


@pytest.mark.browser
@pytest.mark.parametrize("name", ALL)
def test_chromium_shows_the_pixels_of_decode(name: str, page: Any) -> None:
    data = ALL[name]()
    shown = render(data)
    assert gap(in_chromium(page, shown.body, shown.media_type), decode(data)) < 2


@pytest.mark.browser
@pytest.mark.parametrize("name", ["WebP, EXIF orientation", "PNG, eXIf after the pixels", "PNG, gamma 1.0"])
def test_the_originals_would_be_shown_differently(name: str, page: Any, tmp_path: Path) -> None:
    """Why originals are not passed on: when a browser changes this, the test says so."""
    data = ODD[name]()
    shown = in_chromium(page, data, f"image/{name[:4].strip(',').lower()}")
    assert shown.size != decode(data).size or gap(shown, decode(data)) > 5
