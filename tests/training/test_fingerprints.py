"""Whatever changes a training result changes its fingerprint, one input at a time; what cannot change it does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ndec_builder.core.storage import sha256_file
from ndec_builder.manifests.read import open_manifest
from ndec_builder.training import train
from ndec_builder.training.checkpoint import read_card
from ndec_builder.training.data import TrainingSet, read_training_set
from ndec_builder.training.fused.run import run as run_fused
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.recipes import recipe_named
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.view_cache import views_fingerprint
from ndec_builder.training.views import ViewMaker, view_kinds, view_maker
from support.pictures import scene

Rows = dict[str, list[dict[str, Any]]]
Write = Callable[[Rows], Path]
Make = Callable[..., TrainConfig]


def training_set() -> TrainingSet:
    images = pa.table({
        "image_id": ["a", "b", "c", "l"], "uri": ["a.png", "b.png", "c.png", "l.png"], "sha256": ["1", "2", "3", "4"],
        "group": ["x", "y", None, "z"], "rotation": pa.array([0, None, 90, 0], pa.int32()),
    })  # fmt: skip
    return TrainingSet(images, 3, np.array([0, 1, 2, 0]), np.array([[3, 0]]), np.array([True]))


def column(name: str, values: list[Any]) -> Callable[[TrainingSet], dict[str, Any]]:
    def change(data: TrainingSet) -> dict[str, Any]:
        place = data.images.column_names.index(name)
        field = data.images.schema.field(name)
        return {"images": data.images.set_column(place, field, pa.array(values, field.type))}

    return change


CHANGES: dict[str, Callable[[TrainingSet], dict[str, Any]]] = {
    "an id": column("image_id", ["a", "b", "d", "l"]),
    "bytes": column("sha256", ["1", "2", "9", "4"]),
    "a group": column("group", ["x", "y", "y", "z"]),
    "a group taken away": column("group", [None, "y", None, "z"]),
    "a rotation": column("rotation", [0, 180, 90, 0]),
    "a basic image that is only a pair's": lambda data: {"basic": 2},
    "a class": lambda data: {"classes": np.array([0, 1, 2, 3])},
    "a pair": lambda data: {"pairs": np.array([[3, 1]])},
    "a direction": lambda data: {"directed": np.array([False])},
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_part_of_a_training_set_changes_its_identity(what: str) -> None:
    data = training_set()
    changed = TrainingSet(**(vars(data) | CHANGES[what](data)))
    assert changed.identity() != data.identity()


def test_the_place_of_an_image_and_an_unset_rotation_do_not() -> None:
    data = training_set()
    for change in (column("uri", ["z/a.png", "b", "c", "l"]), column("rotation", [None, 0, 90, None])):
        assert TrainingSet(**(vars(data) | change(data))).identity() == data.identity()


def maker(tmp_path: Path, **changes: Any) -> ViewMaker:
    rows = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        scene(number, (48, 32)).save(path)
        rows.append({"uri": str(path), "sha256": sha256_file(path), "rotation": 0})
    rows[2] |= changes.pop("row", {})
    return view_maker(rows, str, 32, changes.pop("seed", 0))


def test_each_input_of_the_views_changes_their_fingerprint(tmp_path: Path) -> None:
    ids, kinds = ["a", "b", "c", "d"], view_kinds(5)
    base = views_fingerprint("trunk", ids, maker(tmp_path), kinds, "off")
    unreadable = maker(tmp_path, row={"uri": str(tmp_path / "gone.png")})
    found = [
        views_fingerprint("another trunk", ids, maker(tmp_path), kinds, "off"),
        views_fingerprint("trunk", ["a", "b", "c", "e"], maker(tmp_path), kinds, "off"),
        views_fingerprint("trunk", ids, maker(tmp_path, row={"sha256": "f" * 64}), kinds, "off"),
        views_fingerprint("trunk", ids, maker(tmp_path, row={"rotation": 90}), kinds, "off"),
        views_fingerprint("trunk", ids, maker(tmp_path, seed=1), kinds, "off"),
        views_fingerprint("trunk", ids, maker(tmp_path), view_kinds(6), "off"),
        views_fingerprint("trunk", ids, maker(tmp_path), kinds, "on"),
        views_fingerprint("trunk", ids, unreadable, kinds, "off", replaced=True),  # copies are pasted on others
    ]
    assert len({base, *found}) == 1 + len(found)
    assert views_fingerprint("trunk", ids, maker(tmp_path), kinds, "off") == base


def rotated(rows: Rows) -> None:
    for row in rows["train_basic"][:3]:
        row["rotation"] = 90


def regrouped(rows: Rows) -> None:
    rows["train_basic"][8]["group"] = rows["train_basic"][9]["group"]


@pytest.mark.slow
@pytest.mark.parametrize("change", [rotated, regrouped])
def test_a_changed_manifest_is_trained_again(
    config: Make, tables: Rows, write_manifest: Write, change: Callable[[Rows], None]
) -> None:
    settings = config(steps=2)
    directory = train.run(settings)
    before = read_card(directory)
    change(tables)
    write_manifest(tables)
    train.run(settings)
    after = read_card(directory)
    assert after["fingerprint"] != before["fingerprint"]
    if change is rotated:
        assert after["weights_sha256"] != before["weights_sha256"]
    else:
        assert after["train_groups"] != before["train_groups"]


@pytest.mark.slow
@pytest.mark.parametrize("change", [rotated, regrouped])
def test_a_changed_manifest_is_fitted_again(
    tmp_path: Path, tiny: str, tables: Rows, write_manifest: Write, change: Callable[[Rows], None]
) -> None:
    settings = FusedConfig(
        tmp_path, write_manifest(tables), backbone=tiny, dim=8, folds=2, networks=1, epochs=1, workers=1, views=3,
        steps=2,
    )  # fmt: skip
    weights = run_fused(settings) / "fused.safetensors"
    before = weights.read_bytes()
    change(tables)
    write_manifest(tables)
    run_fused(settings)
    assert weights.read_bytes() != before


@pytest.mark.slow
def test_other_bytes_under_the_same_hash_are_rejected(config: Make, tables: Rows, tmp_path: Path) -> None:
    settings = config(steps=2, max_reject_share=0.5)
    scene(77, (96, 72)).save(tmp_path / "files" / "b03.png")  # replaced after the export
    directory = train.run(settings)
    trained_on = read_training_set(open_manifest(settings.manifest), recipe_named("asl")).images
    assert read_card(directory)["counts"]["rejects"] == 1
    assert read_card(directory)["counts"]["images"] == len(trained_on) - 1


@pytest.mark.slow
def test_replaced_weights_of_the_backbone_are_trained_with_again(config: Make, tmp_path: Path, tiny: str) -> None:
    model = tmp_path / "net.pt"
    shutil.copy(tiny.removesuffix("@32"), model)
    settings = config(steps=2, backbone=f"{model}@32")
    directory = train.run(settings)
    before = read_card(directory)
    net = torch.jit.load(str(model))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(-1.5)
    net.save(str(model))  # another net in the same file
    train.run(settings)
    after = read_card(directory)
    assert after["fingerprint"] != before["fingerprint"] and after["weights_sha256"] != before["weights_sha256"]


@pytest.mark.slow
def test_settings_of_other_stages_change_no_training_result(config: Make, tmp_path: Path) -> None:
    settings = config(steps=2)
    directory = train.run(settings)
    before = (directory / "checkpoint.safetensors").stat().st_mtime_ns
    (tmp_path / "ndec.toml").write_text('[edit]\nrecipe = "light"\ncount = 3\nseed = 7\n')
    train.run(settings)
    assert (directory / "checkpoint.safetensors").stat().st_mtime_ns == before  # "already trained", and it is
