"""`ndec export --hashes`: the hashes are those of the libraries on the same pixels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pdqhash
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ndec_builder.core.errors import UsageError
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from support.decided_world import World


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"resize": 20, "image_format": "jpeg", "quality": 20}], ids=["kept", "smaller"])
def test_every_image_has_the_hashes_of_the_libraries(world: World, how: dict[str, Any]) -> None:
    directory = run(ExportConfig(world.workspace.root, hashes="phash, pdq", materialize="folder", **how))
    found = pq.read_table(directory / "hashes.parquet")
    assert found.column_names == ["table", "image_id", "pdq", "pdq_quality", "phash"]
    manifest = open_manifest(directory)
    tables = {name: manifest.table(name) for name in IMAGE_TABLES}
    places = {
        (name, row[IMAGE_TABLES[name]]): row["uri"] for name, table in tables.items() for row in table.to_pylist()
    }
    assert [(row["table"], row["image_id"]) for row in found.to_pylist()] == list(places)
    for row in found.to_pylist():
        picture = Image.open(manifest.resolve(places[row["table"], row["image_id"]])).convert("RGB")
        bits, quality = pdqhash.compute(np.asarray(picture))
        # as hash exchanges write it: the first bit is the highest one of the number
        assert row["pdq"] == f"{int(''.join(map(str, bits)), 2):064x}" and row["pdq_quality"] == quality
        assert imagehash.hex_to_hash(row["phash"]) == imagehash.phash(picture)
    assert json.loads((directory / "manifest.json").read_text())["hashes"] == {
        "pdq": f"pdqhash {pdqhash_version()}",
        "phash": f"imagehash {imagehash.__version__}",
    }
    assert not [finding for finding in validate(directory) if finding.is_error]


def pdqhash_version() -> str:
    from importlib.metadata import version

    return version("pdqhash")


@pytest.mark.parametrize("changed", [False, True])
def test_a_picture_without_pixels_or_with_others_gets_no_hash_and_is_counted(
    world: World, capsys: pytest.CaptureFixture[str], changed: bool
) -> None:
    path = world.workspace.files("basic") / "b1.png"
    path.write_bytes((world.workspace.files("basic") / "b2.png").read_bytes() if changed else b"gone")
    directory = run(ExportConfig(world.workspace.root, hashes="pdq"))
    found = pq.read_table(directory / "hashes.parquet").to_pylist()
    assert json.loads((directory / "manifest.json").read_text())["images_without_hashes"] == 1
    assert [row["image_id"] for row in found if row["pdq"] is None] == ["b1"]
    assert "1 image could not be hashed; the first: b1: " in capsys.readouterr().err


def test_an_unknown_hash_and_a_missing_package_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'dhash' is unknown; it must be pdq or phash"):
        run(ExportConfig(world.workspace.root, hashes="pdq,dhash"))
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    with pytest.raises(UsageError, match=r"pip install 'ndec-builder\[hashes\]'"):
        run(ExportConfig(world.workspace.root, hashes="pdq"))


def test_without_it_nothing_is_written(world: World) -> None:
    directory: Path = run(ExportConfig(world.workspace.root))
    assert not (directory / "hashes.parquet").exists()
    assert "hashes" not in json.loads((directory / "manifest.json").read_text())
