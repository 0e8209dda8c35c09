"""One limit of pixels for all stages of a workspace: the one that `ndec ingest` was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ndec_builder.commands import COMMANDS
from ndec_builder.core.config import MAX_PIXELS, limit_of, pixel_limit
from ndec_builder.core.decode import DecodeError, decode, read_header
from ndec_builder.core.errors import GapsError
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.embed import run as embed
from ndec_builder.embeddings.settings import EmbedConfig
from support.ingesting import Ingested, picture
from support.pictures import write_scenes

PIXELS = 192 * 144  # of the scenes


def record(root: Path, role: str, config: object) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "images" / f"{role}.run.json").write_text(json.dumps({"config": config}))


def test_the_largest_recorded_limit_counts_and_ends_with_the_stage(tmp_path: Path) -> None:
    record(tmp_path, "pool", {"max_pixels": 1_000})
    record(tmp_path, "reference", {"max_pixels": 2_000})
    record(tmp_path, "corpus", {"seed": 1})
    (tmp_path / "images" / "query.run.json").write_text("{")
    assert pixel_limit() == MAX_PIXELS == 200_000_000
    with limit_of(tmp_path):
        assert pixel_limit() == 2_000
        with (
            limit_of(tmp_path / "none"),
            pytest.raises(DecodeError, match="the limit is 2000"),
        ):
            decode(picture(1, size=(192, 144)))
        with pytest.raises(DecodeError, match="the limit is 2000"):
            read_header(picture(1, size=(192, 144)))
    assert pixel_limit() == MAX_PIXELS


def test_every_verb_runs_with_the_limit_of_its_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, "pool", {"max_pixels": 300_000_000})
    seen = []
    monkeypatch.setattr("ndec_builder.candidates.mine.run", lambda config: seen.append(pixel_limit()))
    command = COMMANDS["mine"]
    command.run(command.config_class()(workspace=tmp_path))
    assert seen == [300_000_000]


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "embedded"), [(PIXELS - 1, 0), (PIXELS, 2)])
def test_embedding_honours_the_limit_of_listed_images(tmp_path: Path, limit: int, embedded: int) -> None:
    write_scenes(tmp_path / "in", 2)
    Ingested(tmp_path, tmp_path / "in", look="list", max_pixels=limit)
    config = EmbedConfig(tmp_path / "ws", role="pool", whiten=False, max_reject_share=0.5)
    if embedded:
        embed(config)
        return
    with pytest.raises(GapsError, match=r"2 of 2 pool images .*too large: 192x144"):
        embed(config)
    folder = Workspace(tmp_path / "ws").embeddings("pool", config.model)
    assert read_table(folder / "rejects.parquet").num_rows == 2
    Ingested(tmp_path, tmp_path / "in", look="list", max_pixels=PIXELS)  # the same table with another limit
    embed(config)
    assert read_table(folder / "rejects.parquet").num_rows == 0
