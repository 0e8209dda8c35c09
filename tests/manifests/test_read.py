from __future__ import annotations

import json

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_uri, sha256_bytes
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig


@pytest.fixture
def directory(world):
    return run(ExportConfig(world.workspace.root))


def test_uris_resolve_to_the_images(directory):
    manifest = open_manifest(directory)
    for row in manifest.table("references").to_pylist():
        assert sha256_bytes(read_uri(manifest.resolve(row["uri"]))) == row["sha256"]
    assert manifest.resolve("s3://bucket/x.jpg") == "s3://bucket/x.jpg" and manifest.resolve("/a/b.jpg") == "/a/b.jpg"


def test_no_dataset(directory, tmp_path):
    with pytest.raises(NdecError, match="does not exist"):
        open_manifest(tmp_path / "nowhere")
    with pytest.raises(NdecError, match=r"has no manifest\.json"):
        open_manifest(tmp_path)
    path = directory / "manifest.json"
    info = json.loads(path.read_text())
    path.write_text("{")
    with pytest.raises(NdecError, match="is not JSON"):
        open_manifest(directory)
    path.write_text("[]")
    with pytest.raises(NdecError, match="no schema_version"):
        open_manifest(directory)
    path.write_text(json.dumps(info | {"schema_version": "99"}))
    with pytest.raises(NdecError, match=r"schema version '99', this ndec reads '1'"):
        open_manifest(directory)


def test_tables_that_are_not_there(directory):
    manifest = open_manifest(directory)
    with pytest.raises(NdecError, match=r"no table 'query'; did you mean 'queries'\?"):
        manifest.table("query")
    (directory / "data" / "references" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(NdecError, match=r"lacks data/references/test-\*\.parquet"):
        manifest.table("references")
