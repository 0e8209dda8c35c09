"""NDEC release layout → workspace → dataset → NDEC release layout: the same files with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import GROUND_TRUTH, table_of
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.csv_tables import ground_truth_csv
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.export_release import ReleaseConfig, run
from ndec_builder.manifests.pair_folders import folders_csv, read_folders
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.sources.ingest import run as ingest
from ndec_builder.sources.settings import IngestConfig
from support.decided_world import World
from support.pictures import scene

pytestmark = pytest.mark.slow

# folder → (former, latter): a gap in the numbers, a former used twice
FOLDERS = {"00000": ("T000003", "0a1b"), "00001": ("T000001", "0c2d"), "00004": ("T000003", "0e3f")}
QUERIES = {"Q25000": "R000001", "Q25001": None, "Q60000": None}


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """The release as published: JPEG images, a header and an empty reference in the csv."""
    root = tmp_path / "release"

    def put(path: Path, seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(seed, (48, 32)).save(path, "JPEG")

    for place, name in enumerate(QUERIES):
        put(root / "query_images_h5" / f"{name}.jpg", place)
    for place, (folder, (former, latter)) in enumerate(FOLDERS.items()):
        put(root / "negative_pair" / folder / f"{former}.jpg", 100 + int(former[1:]))
        put(root / "negative_pair" / folder / f"{latter}.jpg", 200 + place)
    lines = [f"{query},{reference or ''}\n" for query, reference in QUERIES.items()]
    (root / "public_ground_truth_h5.csv").write_text("query_id,reference_id\n" + "".join(lines))
    return root


def ingested(layout: Path, workspace: Workspace) -> Workspace:
    """The workspace of that release, and one reference of DISC21."""
    references = layout.parent / "disc21"
    references.mkdir()
    scene(900, (48, 32)).save(references / "R000001.jpg")
    ingest(IngestConfig(workspace.root, "all", layout, kind="ndec", license="cc-by-nc-4.0"))
    ingest(IngestConfig(workspace.root, "reference", references, license="cc-by-nc-4.0"))
    return workspace


@pytest.mark.parametrize("form", ["none", "folder", "tar"])
def test_the_release_comes_out_as_it_went_in(layout: Path, tmp_path: Path, form: str) -> None:
    workspace = ingested(layout, Workspace(tmp_path / "bench"))
    directory = export(ExportConfig(workspace.root, preset="ndec", partial=True, materialize=form))
    assert not [finding for finding in validate(directory) if finding.is_error]
    out = run(ReleaseConfig(directory, tmp_path / "out"))
    assert files(out) == files(layout)


def test_a_dataset_of_own_pairs_gets_folders_by_number(world: World, tmp_path: Path) -> None:
    directory = export(ExportConfig(world.workspace.root))
    out = run(ReleaseConfig(directory, tmp_path / "out"))
    pairs = sorted(path.relative_to(out).as_posix() for path in (out / "negative_pair").rglob("*.*"))
    assert len(pairs) == 4 and {name.split("/")[1] for name in pairs} == {"00000", "00001"}
    assert (out / "public_ground_truth_h5.csv").read_bytes() == (directory / "ground_truth.csv").read_bytes()


def test_bad_input(world: World, tmp_path: Path) -> None:
    directory = export(ExportConfig(world.workspace.root))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        run(ReleaseConfig(directory, tmp_path / "full"))
    (world.workspace.files("query") / "mine.png").unlink()
    (world.workspace.files("query") / "stranger.png").write_bytes(b"changed")
    with pytest.raises(NdecError, match=r"2 images cannot be copied.*mine .*; query_images_h5/stranger \(its sha256"):
        run(ReleaseConfig(directory, tmp_path / "out"))


def test_ids_that_are_no_file_names_are_refused(world: World, tmp_path: Path) -> None:
    """A reader would take `p-hard` for the id of `query_images_h5/pool/p-hard.png`, which is another query."""
    world.images("query", {"p-hard": (11, None), "mine": (12, None)})
    world.truth(("p-hard", "r1"), ("mine", "r3"))
    directory = export(ExportConfig(world.workspace.root))
    with pytest.raises(NdecError, match=r"1 id cannot be a file name, 'pool/p-hard' first"):
        run(ReleaseConfig(directory, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_fit_are_found(layout: Path, tmp_path: Path) -> None:
    directory = export(ExportConfig(ingested(layout, Workspace(tmp_path / "bench")).root, preset="ndec", partial=True))
    path = directory / "pair_folders.csv"
    assert set(read_folders(path).values()) == set(FOLDERS)
    good = path.read_text()
    for text in (good.replace("00004", "0000x"), good + "ffff,00009\n", good.replace("00004", "00001"), "a,b\n"):
        path.write_text(text)
        assert "M117" in {finding.code for finding in validate(directory)}, text
    assert folders_csv(["b", "a"], [("x/1.jpg", "y/1.jpg")] * 2) == b"pair_id,folder\na,00001\nb,00000\n"
    # the second pair's latter was used before, so its folder is its former's; five digits or more
    shared = [("r/00007/l.jpg", "r/00007/T1.jpg"), ("r/00007/l.jpg", "r/100000/T2.jpg")]
    assert folders_csv(["a", "b"], shared) == b"pair_id,folder\na,00007\nb,100000\n"


def test_ground_truth_in_pieces_is_the_whole() -> None:
    rows = [{"query_id": f"Q{n}", "reference_id": None if n % 3 else f'R"{n},'} for n in range(200_000)]
    table = table_of(GROUND_TRUTH, rows)
    import csv
    import io

    pieces = list(ground_truth_csv(table))
    assert len(pieces) > 3
    read = list(csv.DictReader(io.StringIO(b"".join(pieces).decode())))
    assert [(row["query_id"], row["reference_id"] or None) for row in read] == [
        (r["query_id"], r["reference_id"]) for r in rows
    ]
