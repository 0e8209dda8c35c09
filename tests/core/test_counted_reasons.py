"""Messages about images that cannot be used: their numbers sum up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ndec_builder.core.console import counted_reasons
from ndec_builder.sources import ingest
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene


@pytest.mark.parametrize(
    ("reasons", "text"),
    [
        ([], ""),
        (["a", "b", "a"], "2 × a; 1 × b"),
        (["a", "b", "c"], "1 × a; 1 × b; 1 × c"),
        (["a", "b", "c", "d", "d", "e"], "2 × d; 1 × a; 1 × b; 2 for other reasons"),
    ],
)
def test_the_numbers_of_the_reasons_are_those_of_the_list(reasons: list[str], text: str) -> None:
    assert counted_reasons(reasons) == text


def test_ingest_counts_the_rejects_whose_reason_it_does_not_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(4):
        scene(index).save(folder / f"good{index}.jpg")
    whole = (folder / "good0.jpg").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "link.jpg").symlink_to("/dev/null")
    ingest.run(IngestConfig(tmp_path / "ws", role="pool", source=str(folder), max_reject_share=1.0))
    said = " ".join(capsys.readouterr().err.split())
    assert "4 rejected" in said
    named = [int(number) for number in re.findall(r"[(;] ?(\d+) (?:×|for other)", said)]
    assert sum(named) == 4, said
