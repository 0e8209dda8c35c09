"""Images that were listed but not opened: their later inspection, embedding and mining."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.storage import read_table, sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.embed import run as embed
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.sources import late_inspection
from ndec_builder.sources.ingest import run
from ndec_builder.sources.late_inspection import open_images, opened_path
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene, write_scenes


@pytest.fixture
def listed(tmp_path: Path) -> Workspace:
    """Five pool images that were only listed; one of them is broken."""
    write_scenes(tmp_path / "pool", 4)
    (tmp_path / "pool" / "broken.png").write_bytes(b"no picture")
    run(IngestConfig(tmp_path / "ws", "pool", f"file://{tmp_path}/pool"))
    return Workspace(tmp_path / "ws")


def test_images_are_opened_once_and_the_table_stays(
    tmp_path: Path, listed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listed.images("pool").read_bytes()
    reads: list[str] = []
    real = late_inspection.read_facts

    def counted(uri: str, *more: object) -> object:
        reads.append(Path(uri).stem)
        return real(uri, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(late_inspection, "read_facts", counted)
    table = listed.read_images("pool")
    some, bad = open_images(listed, "pool", table.slice(0, 3))  # broken, scene-0000, scene-0001
    assert some["image_id"].to_pylist() == ["scene-0000", "scene-0001"]
    assert bad["image_id"].to_pylist() == ["broken"] and "not an image" in bad["reason"][0].as_py()
    assert some["sha256"].to_pylist() == [sha256_file(tmp_path / "pool" / f"scene-000{i}.png") for i in range(2)]
    assert (some["width"].to_pylist(), some["format"].to_pylist()) == ([192, 192], ["PNG", "PNG"])
    rest, _ = open_images(listed, "pool", table)
    assert rest["image_id"].to_pylist() == [f"scene-000{i}" for i in range(4)]
    assert sorted(reads) == ["broken", "broken", "scene-0000", "scene-0001", "scene-0002", "scene-0003"]
    assert listed.images("pool").read_bytes() == before
    run(IngestConfig(listed.root, "pool", tmp_path / "pool", max_reject_share=1.0))  # opened by the ingest itself
    assert not opened_path(listed, "pool").exists()
    whole = listed.read_images("pool")
    assert open_images(listed, "pool", whole)[0].equals(whole)
    assert rest["sha256"].equals(whole["sha256"])


@pytest.mark.slow
def test_listed_images_are_embedded_and_mined(tmp_path: Path, listed: Workspace) -> None:
    for seed in range(3):  # references are the pool's scenes, slightly smaller
        path = tmp_path / "ref" / f"r{seed}.png"
        path.parent.mkdir(exist_ok=True)
        scene(seed).crop((4, 4, 188, 140)).save(path)
    (tmp_path / "pool" / "broken.png").unlink()
    run(IngestConfig(listed.root, "pool", f"file://{tmp_path}/pool"))
    run(IngestConfig(listed.root, "reference", tmp_path / "ref"))
    for role in ("pool", "reference"):
        embed(EmbedConfig(listed.root, role, whiten=False))
    mine(MineConfig(listed.root, top=3))
    table = read_table(listed.candidates("test") / "candidates.parquet")
    pairs = {row["query_id"]: row["reference_id"] for row in table.to_pylist()}
    assert pairs == {"scene-0000": "r0", "scene-0001": "r1", "scene-0002": "r2"}
    run_json = listed.candidates("test") / "run.json"
    first = run_json.read_text()
    open_images(listed, "pool", listed.read_images("pool"))
    mine(MineConfig(listed.root, top=3))  # opening images later does not undo what was made
    assert run_json.read_text() == first
