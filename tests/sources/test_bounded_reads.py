"""One hostile row costs one reject: absurd numbers, large files, reads without an end, odd errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.access import reading
from support.ingesting import picture
from support.untrusted_tables import ingest, write


@pytest.mark.parametrize(
    ("fragment", "reason"),
    {
        "#bytes=0-999999999999999999": "the limit for one image",
        "#bytes=999999999999999998-999999999999999999": "ends at or before",
        "#bytes=0-" + "9" * 5000: "name that no file",
        "#bytes=9-3": "is empty",
        "#cell=999999999/0/image": "no column",
        "#cell=99999999999999999999/0/image": "No such file",
        "#bytes=0-99&deflate": "damaged archive member",
    }.items(),
)
def test_a_row_with_absurd_numbers_is_one_reject(world: Path, fragment: str, reason: str) -> None:
    settings = write("parquet", world, f"below/b.jpg{fragment}")
    rows, rejects = ingest(world.parent / "ws", **settings)
    assert list(rows) == ["good"] and reason in rejects["asked-0"]


def test_a_file_above_the_limit_of_bytes_is_a_reject(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 5_000_000)
    with (world / "large.jpg").open("wb") as file:
        file.truncate(5_000_001)  # sparse
    rows, rejects = ingest(world.parent / "ws", **write("parquet", world, "large.jpg"))
    assert list(rows) == ["good"] and "the limit for one image is 5,000,000" in rejects["asked-0"]


def test_an_error_that_nobody_expects_of_one_image_is_a_reject(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ndec_builder.sources.inspect_images as module

    real = module.read_header

    def fail(data: bytes, *rest: Any) -> Any:
        if data == picture(1):
            raise OverflowError("Python int too large to convert to C long")
        return real(data, *rest)

    monkeypatch.setattr(module, "read_header", fail)
    rows, rejects = ingest(world.parent / "ws", **write("parquet", world, "below/b.jpg"))
    assert list(rows) == ["good"] and "OverflowError: Python int too large" in rejects["asked-0"]


def test_a_read_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SECONDS", 0.05)
    released = threading.Event()
    with pytest.raises(OSError, match=r"reading took more than 0\.05 s"):
        reading.read_storage(lambda: bytes(released.wait(10)))
    released.set()


def test_an_id_of_a_csv_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    head = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,Rotation\n"
    ids = ["0a1b", "../../private/secret", "..", "a/b", "a\\b"]
    (tmp_path / "images.csv").write_text(head + "".join(f"{name},train,,,,,,,\n" for name in ids))
    rows, rejects = ingest(tmp_path / "ws", source=tmp_path / "images.csv", kind="openimages")
    assert list(rows) == ["0a1b"] and set(rejects) == set(ids[1:])
    assert set(rejects.values()) == {"its path leads out of the folder of the file that names it"}
