"""Each input of a cached result, changed one at a time, changes its fingerprint; what changes no result does not."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.config import file_settings
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.embeddings import embed, workspace_whitening
from ndec_builder.embeddings.model_names import ModelName
from ndec_builder.embeddings.settings import EmbedConfig

OTHER = {
    "model": "other", "whiten": False, "whitening": "own", "dim": 7, "shrinkage": 0.3, "whitening_images": 99,
    "batch_size": 3,
    "bf16": "off", "shard_size": 9, "device": "cpu", "engine": "ray", "workers": 3, "threads": 1, "ray_address": "x",
    "task_gpus": 1.0, "max_reject_share": 0.9,
}  # fmt: skip
ROW: dict[str, Any] = {
    "image_id": "a", "role": "basic", "uri": "u", "sha256": "s", "width": 9, "height": 9,
    "format": "JPEG", "rotation": 0,
}  # fmt: skip


def images(**changes: Any) -> Any:
    return table_of(IMAGES, [ROW | changes])


def mark(config: EmbedConfig, table: Any = None, space: str = "space") -> str:
    return embed._fingerprint(config, images() if table is None else table, space)


def test_every_setting_is_tried() -> None:
    assert set(OTHER) == set(file_settings(EmbedConfig))


@pytest.mark.parametrize("name", sorted(set(OTHER) - {"model"}))
def test_settings_of_embed(name: str, tmp_path: Path) -> None:
    config = EmbedConfig(tmp_path, "basic")
    changed = replace(config, **{name: OTHER[name]})
    assert (mark(config) != mark(changed)) == file_settings(EmbedConfig)[name].result


def test_the_model_counts_by_its_space(tmp_path: Path) -> None:
    config = EmbedConfig(tmp_path, "basic")
    assert mark(config) == mark(replace(config, model="renamed")) != mark(config, space="other")


@pytest.mark.parametrize(
    ("column", "value", "counts"),
    [
        ("image_id", "b", True), ("sha256", "t", True), ("rotation", 90, True), ("format", "PNG", True),
        ("uri", "v", False), ("width", 8, False), ("group", "g", False), ("license", "CC0-1.0", False),
        ("author", "x", False),
    ],
)  # fmt: skip
def test_columns_of_the_images(column: str, value: Any, counts: bool, tmp_path: Path) -> None:
    config = EmbedConfig(tmp_path, "basic")
    assert (mark(config) != mark(config, images(**{column: value}))) == counts


def test_an_image_that_was_never_opened_counts_by_its_uri(tmp_path: Path) -> None:
    config = EmbedConfig(tmp_path, "basic")
    assert mark(config, images(sha256=None)) != mark(config, images(sha256=None, uri="v"))


def test_parts_of_a_model_name(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("same", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    base = ModelName("n", "multigrain", "arch", tmp_path / "a")
    other = {"kind": "bot", "architecture": "x", "weights": tmp_path / "b", "tag": "t", "size": 99, "p": 2.0,
             "said": (("norm", "clip"),)}  # fmt: skip
    assert set(other) | {"name"} == {field.name for field in fields(ModelName)}
    marks = [base.fingerprint(), *(replace(base, **{k: v}).fingerprint() for k, v in other.items())]  # type: ignore[arg-type]
    assert len(set(marks)) == len(marks)
    assert replace(base, name="m", weights=tmp_path / "same").fingerprint() == base.fingerprint()


def test_settings_of_the_whitening(tmp_path: Path, tiny_file: Path) -> None:
    config = EmbedConfig(tmp_path, "basic", model=f"{tiny_file}@64")
    changed = {"dim", "shrinkage", "whitening_images", "bf16"}
    base = workspace_whitening._settings(config)
    for name in set(OTHER) - {"model", "whiten"}:
        different = workspace_whitening._settings(replace(config, **{name: OTHER[name]})) != base
        assert different == (name in changed), name
    assert workspace_whitening._settings(replace(config, model=f"{tiny_file}@96")) != base
