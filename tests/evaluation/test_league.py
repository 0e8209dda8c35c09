"""`ndec league`: peers as separate processes, what can go wrong with one of them, and the page."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.benchmark import run as benchmark
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.halves import restricted
from ndec_builder.evaluation.predictions import read_predictions
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.league import entries
from ndec_builder.league.pictures import write_folder
from ndec_builder.league.settings import LeagueConfig
from support.league_adapters import FOLDER_TOOL, GREYS, adapter, league
from support.pictures import scene
from support.tiny_trunk import tiny_model

pytestmark = pytest.mark.slow
GRADED = (
    GREYS.replace("return small > small.mean()", "return small > small.mean(), int(path[-6:-4]) * 10")
    + """
LEAST_QUALITY = 20
"""
)


@pytest.fixture(scope="module")
def played(small: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A league of adapters that need nothing, a csv, and detectors that cannot run."""
    folder = tmp_path_factory.mktemp("league")
    given = folder / "given.csv"
    rows = [("q00", "r00", 0.9), ("some/q01.jpg", "r01", 0.8), ("q08", "r08", 0.7), ("q02.png", "r02", 0.6)]
    rows += [("nobody", "r00", 0.9), ("q03", "r04", float("nan")), ("q00", "r00", 0.1)]
    with given.open("w", newline="") as file:
        csv.writer(file).writerows([("query_id", "reference_id", "score"), *rows])
    detectors = [
        adapter(folder, "greys", GREYS.format(fails="q000001.png")),
        adapter(folder, "folder_tool", FOLDER_TOOL, compare="cosine", threshold=0.4),
        adapter(folder, "dies", "def describe(path):\n    import os, sys\n    print('out of luck', file=sys.stderr)\n"
                "    os._exit(7)\n"),
        f"given={given}",
        "clip",
    ]  # fmt: skip
    return folder / "out", league(small, folder / "out", *detectors)


def test_a_picture_that_a_peer_cannot_describe_is_counted_and_the_others_go_on(played: Any) -> None:
    row = played[1]["greys"]
    assert row["numbers"]["all/uap"]["value"] > 0
    assert any("1 image failed and count as not found" in n and "too much" in n for n in row["notes"])


def test_pictures_below_a_tools_own_quality_are_left_out_and_the_qualities_are_shown(
    small: Any, tmp_path: Path
) -> None:
    detectors = [
        adapter(tmp_path, "graded", GRADED.format(fails="-")), adapter(tmp_path, "greys", GREYS.format(fails="-"))
    ]  # fmt: skip
    notes = league(small, tmp_path / "out", *detectors, pictures=False)["graded"]["notes"]
    assert any(note.startswith("4 images are left out by the tool's own rule") for note in notes)  # q0, q1, r0, r1
    data = from_manifest(small.manifest)
    values = sorted(10 * i for side in (data.queries, data.references) for i in range(len(side)))
    shown = f"median {values[len(values) // 2]}, lowest 0, below 80: 16 of {len(values)} pictures"
    assert any(shown in note for note in notes)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "say copy" in page and "data:image" not in page  # --no-pictures
    notes_shown = re.sub(r"<[^>]+>", "", page[page.index('id="notes"') :])
    assert not re.search(r"\. \.|\. ;| :|: ;", notes_shown)  # nothing where a version or a limit is empty


def test_a_peer_that_dies_is_a_row_with_its_last_words(played: Any) -> None:
    row = played[1]["dies"]
    assert row["numbers"] == {} and row["problem"] == "stopped (exit code 7): out of luck"


def test_a_detector_that_needs_weights_says_what_to_give(played: Any) -> None:
    assert "--detector clip=" in played[1]["clip"]["problem"] and played[1]["clip"]["numbers"] == {}


def test_a_tool_that_changes_folders_and_suffixes_is_understood(played: Any) -> None:
    row = played[1]["folder_tool"]
    # the pair of equal numbers is the true one for every copy, and the tool says it for all queries
    assert row["numbers"]["default/recall"]["value"] == 1.0
    # one stranger, and the four distractors, which have no reference of the same number
    assert any("5 rows of the tool name files that it was not given" in note for note in row["notes"])


def test_ids_of_a_csv_are_found_by_their_stem_and_the_rest_is_counted(small: Any, played: Any) -> None:
    notes = " / ".join(played[1]["given"]["notes"])
    assert "left out, no image of the dataset has the name (first: 'nobody'): 1 row" in notes
    assert "left out, the score is no number: 1 row" in notes
    assert "image named with another folder or ending: 2 rows" in notes
    assert "a pair repeated, the better score counts: 1 row" in notes
    count = len(from_manifest(small.manifest).queries)
    assert f"{count - 4} of {count} queries without a pair in the list: is it for this dataset?" in notes


def test_predictions_of_the_untouched_half_are_kept(small: Any, played: Any) -> None:
    data = restricted(from_manifest(small.manifest), "untouched")
    found = read_predictions(played[0] / "predictions" / "greys.csv", data.query_ids, data.reference_ids)
    described = len(data.queries) - sum(name == "q01" for name in data.query_ids)
    assert len(found) == described * len(data.references)


def test_the_page_shows_every_detector_and_loads_nothing_from_elsewhere(played: Any) -> None:
    page = (played[0] / "report.html").read_text("utf-8")
    assert "data:image" in page
    for name in ("greys", "folder_tool", "given", "dies", "clip"):
        assert f">{name}<" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<svg") >= 7  # dumbbells, and two small figures of each detector with numbers


def test_the_markdown_table_has_a_line_for_each_detector(played: Any) -> None:
    text = (played[0] / "league.md").read_text("utf-8")
    assert "| **greys** |" in text and "| dies |" in text and "## Could not run" in text


def test_a_second_run_takes_what_is_there(small: Any, played: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_run", lambda *_: pytest.fail("the detector ran again"))
    folder, lists = played[0].parent, played[0] / "predictions"
    (lists / "mine.csv").write_text("q00,r00,0.9")  # `--out` names a folder that the person uses already
    rows = league(small, played[0], str(folder / "greys.py"))
    assert rows["greys"]["numbers"] == played[1]["greys"]["numbers"]
    assert sorted(path.name for path in lists.iterdir()) == ["greys.csv", "mine.csv"]  # none of the league before


@pytest.mark.parametrize("name", ["greys", "other"])
def test_a_given_list_is_neither_replaced_by_its_half_nor_removed(small: Any, played: Any, name: str) -> None:
    given = played[0] / "predictions" / "greys.csv"
    before = given.read_bytes()
    with pytest.raises(UsageError, match=r"greys\.csv is a file that this command replaces or removes"):
        league(small, played[0], f"{name}={given}")
    assert given.read_bytes() == before


def test_a_retrained_network_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    """The path stays, the content changes. A whitening of the workspace counts as well."""
    config = LeagueConfig(workspace=tmp_path, checkpoint=tmp_path / "asl", fused_model=tmp_path / "fused")
    whitening = Workspace(tmp_path).whitening(config.model)
    files = {"asl": tmp_path / "asl" / "model.safetensors", "fused": tmp_path / "fused" / "fused.json"}
    files["cosine"] = whitening / "whitening.npz"
    for file in files.values():
        file.parent.mkdir(parents=True)
        file.write_bytes(b"first")
    clip, sscd = tmp_path / "clip.pt", tmp_path / "sscd.torchscript.pt"
    for file in (clip, sscd):
        file.write_bytes(b"first")
    detectors = [entries.Entry(name) for name in files]
    detectors += [entries._entry(text) for text in (f"clip=open_clip:ViT-B-32@{clip}", f"sscd={sscd}@288")]
    reads = {"cosine": (0,), "asl": (0, 1), "fused": (0, 2), "clip": (3,), "sscd": (4,)}
    for place, file in enumerate((files["cosine"], files["asl"], files["fused"], clip, sscd)):
        before = [entries._contents(entries._inputs(detector, config)) for detector in detectors]
        file.write_bytes(b"second")
        after = [entries._contents(entries._inputs(detector, config)) for detector in detectors]
        changed = {detector.name for detector, a, b in zip(detectors, before, after, strict=True) if a != b}
        assert changed == {name for name, places in reads.items() if place in places}


def test_a_torchscript_file_in_the_league_has_the_numbers_of_its_benchmark(small: Any, tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    row = league(small, tmp_path / "out", f"sscd={model}", f"gone={tmp_path / 'gone.pt'}")
    config = BenchmarkConfig(workspace=small.workspace, manifest=small.manifest, model=model, out=tmp_path / "alone")
    benchmark(config)
    scores = {}
    for path in (tmp_path / "alone" / "predictions.csv", tmp_path / "out" / "predictions" / "sscd.csv"):
        with path.open(newline="") as file:
            scores[path.stem] = {tuple(row[:2]): float(row[2]) for row in list(csv.reader(file))[1:]}
    assert len(scores["sscd"]) > 50
    assert scores["sscd"] == pytest.approx({pair: scores["predictions"][pair] for pair in scores["sscd"]}, abs=2e-6)
    assert row["gone"]["problem"].startswith("the weights file ") and row["sscd"]["numbers"]


def test_a_league_without_any_result_ends_with_an_error(small: Any, tmp_path: Path) -> None:
    with pytest.raises(NdecError, match="no detector could be evaluated: clip: needs weights"):
        league(small, tmp_path, "clip")


def test_a_picture_that_changed_is_given_to_no_peer(tmp_path: Path) -> None:
    for row, sha256 in enumerate(["0" * 64, None]):
        scene(row).save(tmp_path / f"{row}.png")
        table = pa.table({"uri": [str(tmp_path / f"{row}.png")], "sha256": pa.array([sha256], pa.string())})
        assert write_folder(table, str, tmp_path / str(row), "q") == (0, ["q000000"] if row == 0 else [])
    assert (tmp_path / "0" / "q000000.jpg").read_bytes() == b""
    assert (tmp_path / "1" / "q000000.png").read_bytes() == (tmp_path / "1.png").read_bytes()
