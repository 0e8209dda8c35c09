"""Views: what they are, that they are recorded, and that nothing but seed, bytes and number decides them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndec_builder.core.decode import DecodeError
from ndec_builder.core.storage import sha256_file
from ndec_builder.edits.operations import replay
from ndec_builder.embeddings.preprocess import to_array
from ndec_builder.training import views
from ndec_builder.training.views import load_picture, view_kinds, view_maker
from support.pictures import scene, write_scenes


@pytest.mark.parametrize(
    ("count", "kinds"),
    [
        (1, ("original",)),
        (2, ("original", "edited-crop")),
        (4, ("original", "edited-crop", "edited-crop", "copy")),
        (7, ("original", "edited-crop", "edited-crop", "edited-crop", "copy", "view", "copy")),
    ],
)
def test_kinds(count: int, kinds: tuple[str, ...]) -> None:
    assert view_kinds(count) == kinds


def rows_of(paths: list[Path]) -> list[dict[str, str]]:
    return [{"uri": str(path), "sha256": sha256_file(path)} for path in paths]


def test_views_are_recorded_and_replay(tmp_path: Path) -> None:
    paths = write_scenes(tmp_path, 4)
    maker = view_maker(rows_of(paths), str, size=64, seed=3)
    for row, path in enumerate(paths):
        original, *others = maker.views(row, view_kinds(6))
        picture = load_picture(str(path), maker.side)
        assert (original.content_share, original.adds_content, original.edits) == (1.0, False, "[]")
        np.testing.assert_array_equal(original.pixels, to_array(picture, 64))
        for view in others:
            again = replay(picture, json.loads(view.edits), maker.backgrounds)
            np.testing.assert_array_equal(to_array(again.image, 64), view.pixels)
            assert (again.content_share, again.adds_content) == (view.content_share, view.adds_content)
        assert all(view.content_share < 1 and not view.adds_content for view in others if view.recipe == "crop")


def test_views_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    paths = write_scenes(tmp_path, 3)
    kinds = view_kinds(4)
    maker, other = (view_maker(rows_of(paths), str, 32, seed) for seed in (0, 1))
    again = view_maker(rows_of(paths), str, 32, 0)
    backwards = [again.views(row, kinds) for row in (2, 1, 0)][::-1]
    for row in range(3):
        for one, two in zip(maker.views(row, kinds), backwards[row], strict=True):
            assert one.edits == two.edits and (one.pixels == two.pixels).all()
    assert [v.edits for v in maker.views(0, kinds)] != [v.edits for v in other.views(0, kinds)]
    assert [v.edits for v in maker.views(0, kinds, 7)] != [v.edits for v in maker.views(0, kinds, 8)]


def test_large_pictures_are_shrunk_and_bad_ones_are_errors(tmp_path: Path) -> None:
    (path,) = write_scenes(tmp_path, 1)
    assert load_picture(str(path), 48).size == (48, 36)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DecodeError):
        load_picture(str(path), 48)
    with pytest.raises(OSError, match="nothing"):
        load_picture(str(tmp_path / "nothing.png"), 48)


def test_an_image_with_a_rotation_is_seen_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the same edits for both files, whose bytes differ
    monkeypatch.setattr(views, "view_generator", lambda seed, _, *numbers: np.random.default_rng([seed, *numbers]))
    paths = write_scenes(tmp_path, 1)
    turned = tmp_path / "turned.png"
    Image.open(paths[0]).transpose(Image.Transpose.ROTATE_90).save(turned)  # counter-clockwise: 90 degrees to turn back
    rows = [
        {"uri": str(path), "sha256": sha256_file(path), "rotation": turn}
        for path, turn in ((paths[0], None), (turned, 90))
    ]
    first, second = (view_maker([row], str, 32, 0).views(0, ("original", "view")) for row in rows)
    assert [view.pixels.tobytes() for view in first] == [view.pixels.tobytes() for view in second]


def test_a_large_jpeg_is_scaled_down_while_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    scene(5, (960, 720)).save(path, quality=95)
    full, scaled = (np.asarray(load_picture(str(path), 96, scaled=choice), np.int64) for choice in (False, True))
    assert full.shape == scaled.shape == (72, 96, 3)
    assert 0 < np.abs(full - scaled).mean() < 2  # of 255: another way to shrink, the same picture
    small = tmp_path / "small.jpg"
    scene(5, (340, 250)).save(small, quality=95)
    assert load_picture(str(small), 96).tobytes() == load_picture(str(small), 96, scaled=True).tobytes()
