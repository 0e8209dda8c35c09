"""Pre-labels are learned from pictures of different groups, and in the vectors that the pairs were mined with."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ndec_builder.candidates import prelabel
from ndec_builder.candidates.prelabel import learn, out_of_fold, run
from ndec_builder.candidates.settings import PrelabelConfig
from ndec_builder.candidates.synthetic import known_pairs
from ndec_builder.candidates.synthetic.known_pairs import KnownPairs
from ndec_builder.candidates.synthetic.shard_works import GalleryPictures
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import CANDIDATES, GEOMETRY, table_of
from ndec_builder.core.storage import write_json, write_table
from support.pictures import scene


@pytest.fixture
def mined(bench, monkeypatch):
    """20 references in one group, one pair with geometry; making pictures to learn from would fail."""
    names = [f"r{n:02}" for n in range(20)]
    bench.add("reference", {name: scene(n, (60, 60)) for n, name in enumerate(names)}, groups=dict.fromkeys(names, "g"))
    bench.add("pool", {"p": scene(50, (60, 60))})
    directory = bench.workspace.candidates("test")
    pair = {"pair_id": "x", "query_id": "p", "reference_id": "r00", "score": 0.5, "rank": 1}
    write_table(directory / "candidates.parquet", table_of(CANDIDATES, [pair]))
    write_table(directory / "geometry.parquet", table_of(GEOMETRY, [{"pair_id": "x", "inliers": 3}]))
    monkeypatch.setattr(prelabel, "make_known_pairs", None)
    return bench


def test_one_group_is_refused_before_the_work(mined):
    with pytest.raises(NdecError, match=r"all 20 reference images are in one group.*--group-by none"):
        run(PrelabelConfig(mined.workspace.root))


def test_pairs_whose_pictures_could_not_be_measured_are_named(mined, capsys):
    row = {"pair_id": "x", "unreadable": "cannot read"}
    write_table(mined.workspace.candidates("test") / "geometry.parquet", table_of(GEOMETRY, [row]))
    with pytest.raises(NdecError, match="in one group"):
        run(PrelabelConfig(mined.workspace.root))
    assert "1 pair without geometry: a picture could not be read" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("record", "error", "said"),
    [
        ({"config": {"model": "timm:resnet18"}}, UsageError, "mined with model 'timm:resnet18'"),
        ({"space": "another"}, NdecError, "made again after split test was mined"),
    ],
)
def test_vectors_of_another_mining_are_refused(mined, record, error, said):
    write_json(mined.workspace.candidates("test") / "run.json", record)
    with pytest.raises(error, match=said):
        run(PrelabelConfig(mined.workspace.root))


def pairs(groups):
    """A copy and a neighbour of each group; the only feature tells them apart."""
    kinds = ["copy", "neighbour"] * len(groups)
    return KnownPairs(np.array([[1.0], [0.0]] * len(groups)), kinds, [name for name in groups for _ in range(2)])


@pytest.mark.parametrize("groups", [["a"], []])
def test_too_few_groups_are_named(groups):
    with pytest.raises(NdecError, match=f"belong to {len(groups)} group.*--group-by none"):
        learn(pairs(groups), "reference")


def test_two_groups_are_enough():
    held = out_of_fold(pairs(["a", "b"]), "reference")
    assert (held[0::2] > 0.5).all() and (held[1::2] < 0.5).all()


def test_a_picture_that_changed_is_not_learned_from(tmp_path):
    path = tmp_path / "a.png"
    scene(1).save(path)
    sums = [hashlib.sha256(path.read_bytes()).hexdigest(), "0" * 64, None]
    pictures = GalleryPictures([str(path)] * 3, [0] * 3, sums)
    for read in (pictures.open, pictures.describe):
        assert [read(place) is None for place in range(3)] == [False, True, False]


def test_a_worker_kept_alive_takes_the_vectors_of_this_run(bench, monkeypatch):
    """The workers of a Ray cluster live on when the command has ended, and each run writes the same file again."""
    bench.add("reference", {f"r{n}": scene(n, (120, 120)) for n in range(3)})
    monkeypatch.setattr(known_pairs, "_embed_pictures", lambda *given: np.ones((len(given[3]), 2), np.float32))
    rows = bench.workspace.image_rows("reference", ["r0", "r1", "r2"])

    def scores(vectors: np.ndarray) -> set[float]:
        with monkeypatch.context() as living:
            living.setattr(known_pairs, "forget_pictures", lambda: None)  # happens in the process of the command
            gallery = known_pairs.Gallery(list(rows), rows, vectors)
            found = known_pairs.make_known_pairs(
                bench.workspace, gallery, "timm:resnet18", 2, 0, bench.workspace.root / "scratch", neighbours=False
            )
        return set(found.features[:, 0].tolist())

    assert scores(np.full((3, 2), 0.25, np.float32)) == {0.5}
    assert scores(np.full((3, 2), 0.125, np.float32)) == {0.25}
