"""An interrupted ingest: it resumes only if rows, settings and files are the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.sources import inspect_images
from ndec_builder.sources.containers import file_stamp, find_remote
from support.ingesting import Ingested, picture, write_tar


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Ingest a source and stop at its fifth image, after two shards of two images."""
    monkeypatch.setattr(inspect_images, "IMAGES_PER_SHARD", 2)

    def stop(source: Path, **settings: Any) -> None:
        seen: list[str] = []

        def read(uri: str, *more: Any) -> Any:
            seen.append(uri)
            if len(seen) > 4:
                raise KeyboardInterrupt
            return real(uri, *more)

        real = inspect_images.read_facts
        with monkeypatch.context() as patch:
            patch.setattr(inspect_images, "read_facts", read)
            with pytest.raises(KeyboardInterrupt):
                Ingested(tmp_path, source, workers=1, **settings)
        assert len(list((tmp_path / "ws" / "images").rglob("*.done.json"))) == 2

    return stop


def write_metadata(folder: Path, rotation: int, license: str) -> None:
    rows = [f"{number}.jpg,{rotation},{license}" for number in range(6)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,rotation,license", *rows]))


def test_metadata_that_was_fixed_counts(tmp_path: Path, interrupted) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / "in"
    source.mkdir()
    for number in range(6):
        (source / f"{number}.jpg").write_bytes(picture(number))
    write_metadata(source, 0, "unknown")
    interrupted(source)
    write_metadata(source, 90, "CC0-1.0")
    found = Ingested(tmp_path, source)
    assert set(found.column("rotation").values()) == {90}
    assert set(found.column("license").values()) == {"CC0-1.0"}


def write_parquet(path: Path, seeds: range) -> Path:
    pq.write_table(pa.table({"image": [picture(seed) for seed in seeds]}), path)
    return path


def write_shard(path: Path, seeds: range) -> Path:
    pictures = [picture(seed) for seed in seeds]
    return write_tar(path, {f"{n}.jpg": data.ljust(9000, b"\0") for n, data in enumerate(pictures)})


@pytest.mark.parametrize(("name", "write"), [("a.parquet", write_parquet), ("a.tar", write_shard)])
def test_an_archive_that_was_replaced_is_read_again(tmp_path: Path, interrupted, name: str, write) -> None:  # type: ignore[no-untyped-def]
    source = write(tmp_path / name, range(6))
    interrupted(source)
    write(source, range(10, 16))
    os.utime(source, ns=(1, 1))  # also one with an older time
    found = Ingested(tmp_path, source)
    data = [picture(seed) for seed in range(10, 16)]
    data = [one.ljust(9000, b"\0") for one in data] if name.endswith("tar") else data
    assert list(found.column("sha256").values()) == [hashlib.sha256(one).hexdigest() for one in data]


def test_the_stamp_of_a_remote_file_has_its_version() -> None:
    import fsspec

    storage = fsspec.filesystem("memory")
    stamps = []
    for data in (b"one", b"two"):
        storage.pipe("/stamps/a.jpg", data)
        stamps.append(next(stamp for _, _, stamp in find_remote("memory://stamps")))
        stamps.append(file_stamp("memory://stamps/a.jpg"))
    assert len(set(stamps)) == 4  # the listing and `info` write the time in different ways
