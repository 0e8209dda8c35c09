"""What `ndec mine` leaves out, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.candidates.mine import run
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import read_json, read_table, write_table
from support.pictures import crop, scene

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


def test_vectors_that_are_not_numbers_or_not_whole(mined, bench):
    part = mined.embeddings("pool", MODEL) / "part-00000.npy"
    vectors = np.load(part)
    spoiled = vectors.copy()
    spoiled[3, 5] = np.nan
    np.save(part, spoiled)
    with pytest.raises(NdecError, match=r"the vector of 'p-other0' in part-00000\.npy holds NaN.*ndec embed"):
        run(MineConfig(mined.root, top=3))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(NdecError, match=r"part-00000\.npy cannot be read"):
        run(MineConfig(mined.root, top=3))
    part.unlink()
    with pytest.raises(NdecError, match="has 0 part-"):
        run(MineConfig(mined.root, top=3))
    np.save(part, vectors[:, :16])
    with pytest.raises(NdecError, match=r"expected 432-d vectors, got 16-d vectors in part-00000\.npy"):
        run(MineConfig(mined.root, top=3))


def test_a_pool_of_which_nothing_could_be_embedded(mined, bench):
    bench.embed("pool", [], np.zeros((0, 432)))
    with pytest.raises(NdecError, match=r"none of the pool images could be embedded: .*rejects\.parquet"):
        run(MineConfig(mined.root, top=3))


def test_more_than_there_are(mined, capsys):
    directory = run(MineConfig(mined.root, top=1000, max_per_query=0, max_per_reference=0))
    assert len(read_table(directory / "candidates.parquet")) == 24
    assert "only 23 found" in " ".join(capsys.readouterr().err.split())


def test_train_skips_what_test_used_and_keeps_the_order_of_the_two(bench):
    bench.add("reference", {"r1": scene(1), "r2": scene(2)}, groups={"r1": "g1", "r2": "g-ref"})
    bench.add(
        "pool",
        {
            "p1": crop(1),
            "p1-twin": crop(1),  # same bytes
            "p1-small": crop(1).resize((86, 64)),  # near-exact
            "p3": crop(3),
            "p4": crop(4),
            "p5": crop(5),
            "p6": crop(6),
        },
        groups={"p1": "g1", "p4": "g1", "p5": "g-ref", "p6": "g-free"},
    )
    bench.add("basic", {f"b{i}": scene(i) for i in (3, 4, 5, 6, 2)}, groups={"b6": "g-ref"})
    run(MineConfig(bench.workspace.root, top=1))
    directory = run(MineConfig(bench.workspace.root, split="train", top=20, max_per_query=0, max_per_reference=0))
    rows = read_table(directory / "candidates.parquet").to_pylist()
    assert {row["query_id"] for row in rows} == {"p3", "p6"}
    assert {row["reference_id"] for row in rows} == {"b3", "b4", "b5"}  # b6: group of r2; b2: bytes of r2
    record = read_json(directory / "run.json")
    assert record["skipped"]["split"] == "test"
    assert record["counts"]["pool_skipped"] == {
        "duplicate of an image used by the other split": 2,
        "group of a reference": 1,
        "group used by the other split": 1,
        "used by the other split": 1,
    }
    before = (bench.workspace.candidates("test") / "run.json").stat().st_mtime_ns
    run(MineConfig(bench.workspace.root, top=1))
    assert (bench.workspace.candidates("test") / "run.json").stat().st_mtime_ns == before
    again = run(MineConfig(bench.workspace.root, top=2))  # mined first: train's images are still open to it
    assert read_json(again / "run.json")["skipped"] is None


def test_nothing_left_to_mine(bench):
    bench.add("reference", {"r1": scene(1)})
    bench.add("pool", {"p1": crop(1)})
    bench.add("basic", {"b1": scene(9)})
    run(MineConfig(bench.workspace.root, top=1))
    with pytest.raises(NdecError, match="no pool image is left to mine"):
        run(MineConfig(bench.workspace.root, split="train"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split is 'dev'; it must be test or train"),
        ({"top": -1}, "top is -1"),
        ({"max_per_query": -1}, "max_per_query is -1"),
        ({"search": "ivf"}, "search is 'ivf'; it must be auto, bf16 or faiss"),
        ({"rank_by": "mean"}, "rank_by is 'mean'; it must be raw or normalized"),
        ({"normalization_mode": "max"}, "normalization_mode is 'max'; it must be mean or min"),
    ],
)
def test_bad_settings(bench, options, message):
    with pytest.raises(UsageError, match=message):
        run(MineConfig(bench.workspace.root, **options))


def test_embeddings_that_do_not_fit_together(mined, bench):
    ids = [f"r{i}" for i in range(1, 5)]
    bench.embed("reference", ids, [np.eye(16)[i] for i in range(4)], space="another")
    with pytest.raises(NdecError, match="cannot be compared"):
        run(MineConfig(mined.root))
    bench.embed("reference", ids, [np.eye(16)[i] for i in range(4)])
    with pytest.raises(NdecError, match="expected 16-d vectors as in the reference embeddings, got 432-d"):
        run(MineConfig(mined.root))


def test_missing_and_empty_roles(bench):
    with pytest.raises(NdecError, match="ndec ingest pool"):
        run(MineConfig(bench.workspace.root))
    write_table(bench.workspace.images("pool"), IMAGES.empty_table())
    with pytest.raises(NdecError, match=r"pool table of .* is empty"):
        run(MineConfig(bench.workspace.root))
