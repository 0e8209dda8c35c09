"""`ndec embed` when images, storage or settings are bad."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.executor.plan import Shard, plans_folder
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import embed
from ndec_builder.embeddings.embed import run
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.stored_vectors import read_embeddings
from support.embed_runs import count_work, results
from support.pictures import write_scenes

pytestmark = pytest.mark.slow

Ingest = Callable[[Path, str, list[Path]], None]


def test_a_read_that_fails_twice_then_works(
    config: EmbedConfig, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results(run(config))
    reads = flaky(workspace, monkeypatch, failures=2)
    (workspace.embeddings("reference", config.model) / "run.json").unlink()
    assert results(run(config)) == before  # not one reject
    assert reads.count(reads[0]) == 3


def test_storage_that_stays_away_sets_shards_aside_and_a_rerun_does_them(
    config: EmbedConfig, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results(run(config))
    directory = workspace.embeddings("reference", config.model)
    (directory / "run.json").unlink()
    with monkeypatch.context() as patch:
        flaky(workspace, patch, failures=10**6, only="scene-0009")
        with pytest.raises(GapsError, match=r"1 of 3 shards were set aside after 3 tries: 1\. .*scene-0009.*5 tries"):
            run(config)
    assert not (directory / "run.json").is_file() and list(plans_folder(directory).glob("*/shard-00001.failed.json"))
    done = count_work(monkeypatch)
    flaky(workspace, monkeypatch, failures=0)
    assert results(run(config)) == before and done == [1]


def test_a_full_disk_is_one_paragraph_and_after_room_is_made_the_run_goes_on(
    config: EmbedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run(config)
    before = results(directory)
    (directory / "run.json").unlink()
    work = embed.EmbedShard.__call__

    def filling(self: embed.EmbedShard, shard: Shard) -> object:
        if shard.index == 1:  # a limit on the size of files: the same system calls fail as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        return work(self, shard)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with monkeypatch.context() as patch, pytest.raises(NdecError, match=r"cannot write .*free some space and run"):
            patch.setattr(embed.EmbedShard, "__call__", filling)
            run(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(directory.rglob("*partial*"))
    done = count_work(monkeypatch)
    assert results(run(config)) == before and done == [1, 2]


def flaky(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, failures: int, only: str = "") -> list[str]:
    """Put the images behind a file system whose reads fail so many times for each file; return the log of reads."""
    reads: list[str] = []

    class Flaky(LocalFileSystem):
        protocol = "flaky"
        cachable = False

        def _open(self, path: str, *args: object, **options: object) -> object:
            if path.endswith(".png"):
                reads.append(path)
                if only in path and reads.count(path) <= failures:
                    raise OSError("connection reset by the test")
            return super()._open(path, *args, **options)

    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr("ndec_builder.core.access.remote.FIRST_WAIT", 0.0)
    table = workspace.read_images("reference")
    paths = [str(workspace.root / "in" / f"{name}.png") for name in table["image_id"].to_pylist()]
    uris = pa.array([f"flaky://{path}" for path in paths])
    index = table.column_names.index("uri")
    write_table(workspace.images("reference"), table.set_column(index, table.schema.field(index), uris))
    return reads


def test_rejects_and_the_limit(config: EmbedConfig, workspace: Workspace, ingest: Ingest) -> None:
    (workspace.root / "in" / "scene-0003.png").write_bytes(b"no picture")
    (workspace.root / "in" / "scene-0017.png").write_bytes(b"")
    ingest(workspace.root, "reference", sorted((workspace.root / "in").iterdir()))
    with pytest.raises(GapsError, match=r"2 of 20 reference images.*0\.05 allows: 1 × .*rejects\.parquet") as caught:
        run(config)
    assert caught.value.exit_code == 3
    directory = workspace.embeddings("reference", config.model)
    assert read_table(directory / "rejects.parquet")["image_id"].to_pylist() == ["scene-0003", "scene-0017"]
    assert len(read_embeddings(directory).ids) == 18
    with pytest.raises(GapsError):  # the gap does not vanish in a second run
        run(config)
    assert run(replace(config, max_reject_share=0.1)) == directory


def test_all_images_unusable(config: EmbedConfig, workspace: Workspace) -> None:
    for path in (workspace.root / "in").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(NdecError, match=r"20 reference images of 20 cannot be read .*The other 0 are too few"):
        run(config)
    with pytest.raises(GapsError, match="20 of 20 reference images"):
        run(replace(config, whiten=False))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"role": "pool"}, NdecError, "no pool images.*ndec ingest pool"),
        ({"role": "refs"}, UsageError, "role is 'refs'; it must be reference"),
        ({"model": "resnet"}, UsageError, "model 'resnet' is unknown"),
        ({"batch_size": 0}, UsageError, "batch_size is 0"),
        ({"device": "tpu"}, UsageError, "device is 'tpu'"),
        ({"engine": "rai"}, UsageError, "engine is 'rai'; it must be local or ray; did you mean 'ray'"),
        ({"workers": -1}, UsageError, "workers is -1; it must be at least 0"),
    ],
)
def test_bad_settings(config: EmbedConfig, change: dict, error: type[NdecError], message: str) -> None:
    with pytest.raises(error, match=message):
        run(replace(config, **change))


def test_no_images_and_a_single_one(config: EmbedConfig, workspace: Workspace, ingest: Ingest) -> None:
    ingest(workspace.root, "reference", [])
    with pytest.raises(NdecError, match="there are no reference images"):
        run(config)
    ingest(workspace.root, "reference", write_scenes(workspace.root / "in", 1))
    assert len(read_embeddings(run(replace(config, whiten=False))).ids) == 1


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no picture")], ids=["gone", "changed"])
def test_a_file_that_is_restored_is_embedded(
    config: EmbedConfig, workspace: Workspace, damage: Callable[[Path], None]
) -> None:
    path = workspace.root / "in" / "scene-0003.png"
    before = path.read_bytes()
    damage(path)
    config = replace(config, whiten=False, max_reject_share=0.5)
    assert len(read_embeddings(run(config)).ids) == 19
    path.write_bytes(before)
    assert len(read_embeddings(run(config)).ids) == 20
