from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.recheck import close_to_references, new_pairs, not_searched_again, run
from ndec_builder.candidates.settings import MineConfig, RecheckConfig
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import CANDIDATES, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.pictures import scene

MODEL = "efficientnet-lite0"


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float64)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def mined(bench):
    """q1 is near r1 and r2 (both above the cut), q2 near r3 alone, q3 near r1 but decided a copy."""
    bench.add("reference", {f"r{i}": scene(i) for i in (1, 2, 3)})
    bench.add("pool", {f"q{i}": scene(i + 10) for i in (1, 2, 3)})
    bench.embed("reference", ["r1", "r2", "r3"], [unit(1, 0.1, 0), unit(1, -0.3, 0), unit(0, 0, 1)])
    bench.embed("pool", ["q1", "q2", "q3"], [unit(1, 0, 0), unit(0, 0.5, 1), unit(1, 0.3, 0)])
    mine(MineConfig(bench.workspace.root, top=3))
    return bench.workspace


def decisions_of(workspace, **labels):
    table = all_candidates(workspace, "test").to_pylist()
    return {row["pair_id"]: labels[row["query_id"]] for row in table}


@pytest.mark.slow
def test_new_pairs_until_none(mined, decide):
    decide(mined, "test", decisions_of(mined, q1="hard_negative", q2="hard_negative", q3="edited_copy"))
    path = run(RecheckConfig(mined.root))
    table = read_table(path)
    assert table.schema.equals(CANDIDATES, check_metadata=True)
    rows = table.to_pylist()
    assert [(row["query_id"], row["reference_id"], row["rank"]) for row in rows] == [("q1", "r2", 4)]
    cut = read_table(mined.candidates("test") / "candidates.parquet")["score"].to_pylist()[-1]
    assert rows[0]["score"] >= cut
    assert new_pairs(mined) == [rows[0]["pair_id"]]
    record = read_json(mined.candidates("test") / "recheck.run.json")
    assert (
        record["counts"] == {"kept_queries": 2, "new_pairs": 1, "new_duplicates": 0, "pairs": 1}
        and record["cut"] == cut
    )
    assert read_json(mined.candidates("test") / "run.json")["stage"] == "mine"  # not overwritten
    run(RecheckConfig(mined.root))  # without a decision: nothing twice
    assert len(read_table(path)) == 1
    decide(mined, "test", decisions_of(mined, q1="hard_negative", q2="hard_negative", q3="edited_copy"))
    assert new_pairs(mined) == []
    run(RecheckConfig(mined.root))
    assert len(all_candidates(mined, "test")) == 4


def test_queries_are_not_searched_again_once_the_references_changed(mined, bench, decide):
    decide(mined, "test", decisions_of(mined, q1="hard_negative", q2="hard_negative", q3="edited_copy"))
    kept = {"q1", "q2"}
    assert not_searched_again(mined, "test", kept) == kept
    run(RecheckConfig(mined.root))
    assert not_searched_again(mined, "test", kept) == set()
    assert not_searched_again(mined, "test", {*kept, "q3"}) == {"q3"}  # kept later, by other labels
    bench.add("reference", {f"r{i}": scene(i) for i in (1, 2, 3, 4)})
    assert not_searched_again(mined, "test", kept) == kept
    (mined.candidates("test") / "recheck-searched.json").unlink()  # as earlier versions left it
    assert not_searched_again(mined, "test", kept) == set()


def test_a_query_is_not_searched_again_once_its_picture_or_the_mining_changed(mined, bench, decide):
    """Its labels are asked for again and may keep it again; the export said nothing about its other references."""
    decide(mined, "test", decisions_of(mined, q1="hard_negative", q2="hard_negative", q3="edited_copy"))
    kept = {"q1", "q2"}
    run(RecheckConfig(mined.root))
    path = mined.candidates("test") / "recheck-searched.json"
    searched = read_json(path)
    pool = {f"q{i}": scene(i + 10) for i in (1, 2, 3)}
    bench.add("pool", pool | {"q2": scene(99)})
    assert not_searched_again(mined, "test", kept) == {"q2"}
    bench.add("pool", pool)
    assert not_searched_again(mined, "test", kept) == set()
    write_json(path, {name: searched[name] for name in ("images", "queries")})  # as earlier versions wrote it
    assert not_searched_again(mined, "test", kept) == set()
    write_json(path, searched)
    bench.embed("pool", ["q1", "q2", "q3"], [unit(1, 0, 0), unit(0, 0.5, 1), unit(1, 0.3, 0)])
    mine(MineConfig(mined.root, top=2))  # another cut
    assert not_searched_again(mined, "test", kept) == kept


def test_the_old_bytes_of_a_reference_under_a_new_id_are_another_reference(mined, bench, decide):
    """Nobody labelled q1 next to the new id: the query counts as not searched, and its pair is asked."""
    for _ in range(2):  # the second time with the pair that the search found
        decide(mined, "test", decisions_of(mined, q1="hard_negative", q2="hard_negative", q3="edited_copy"))
        run(RecheckConfig(mined.root))
    bench.add("reference", {"r1": scene(1), "r2": scene(2), "r3-again": scene(3)})
    bench.embed("reference", ["r1", "r2", "r3-again"], [unit(1, 0.1, 0), unit(1, -0.3, 0), unit(0, 0, 1)])
    assert not_searched_again(mined, "test", {"q1", "q2"}) == {"q1", "q2"}
    rows = read_table(run(RecheckConfig(mined.root))).to_pylist()
    assert ("q2", "r3-again") in {(row["query_id"], row["reference_id"]) for row in rows}
    assert not_searched_again(mined, "test", {"q1", "q2"}) == set()


@pytest.mark.slow
def test_ties_with_the_cut_are_found(bench, decide):
    bench.add("reference", {"r1": scene(1), "r2": scene(2)})
    bench.add("pool", {"q1": scene(11)})
    bench.embed("reference", ["r1", "r2"], [unit(1, 1), unit(1, -1)])
    bench.embed("pool", ["q1"], [unit(1, 0)])
    mine(MineConfig(bench.workspace.root, top=1))
    decide(bench.workspace, "test", decisions_of(bench.workspace, q1="hard_negative"))
    assert read_table(run(RecheckConfig(bench.workspace.root)))["reference_id"].to_pylist() == ["r2"]


@pytest.mark.slow
def test_nothing_kept_gives_an_empty_table(mined, decide):
    decide(mined, "test", decisions_of(mined, q1="unsure", q2="unrelated", q3="edited_copy"))
    table = read_table(run(RecheckConfig(mined.root)))
    assert len(table) == 0 and table.schema.equals(CANDIDATES, check_metadata=True)
    assert new_pairs(mined) == []


@pytest.mark.slow
def test_bad_input(mined, decide, bench, tmp_path):
    with pytest.raises(NdecError, match=r"decisions\.parquet does not exist"):
        run(RecheckConfig(mined.root))
    with pytest.raises(NdecError, match=r"candidates\.parquet does not exist"):
        run(RecheckConfig(tmp_path / "nowhere"))
    decide(mined, "test", decisions_of(mined, q1="hard_negative", q2="hard_negative", q3="edited_copy"))
    with pytest.raises(UsageError, match="mined with model 'efficientnet-lite0', not 'timm:resnet18'"):
        run(RecheckConfig(mined.root, model="timm:resnet18"))
    bench.add("pool", {"q2": scene(12)})
    bench.embed("pool", ["q2"], [unit(0, 0.5, 1)])
    with pytest.raises(NdecError, match="1 mined pool images, 'q1' first, are no longer"):
        run(RecheckConfig(mined.root))


def test_a_rechecked_pair_that_is_mined_later_is_listed_once(tmp_path):
    workspace = Workspace(tmp_path)
    for name, ids in (("candidates", ("a", "b")), ("recheck", ("b", "c"))):
        rows = [{"pair_id": pair, "score": 0.5, "rank": 1 if name == "candidates" else 9} for pair in ids]
        write_table(workspace.candidates("test") / f"{name}.parquet", table_of(CANDIDATES, rows))
    table = all_candidates(workspace, "test")
    assert list(zip(table["pair_id"].to_pylist(), table["rank"].to_pylist(), strict=True)) == [
        ("a", 1), ("b", 1), ("c", 9),
    ]  # fmt: skip


@pytest.fixture
def unmined(bench):
    """q1 … q3 are mined; u1 reaches the cut with r1 (which has its two pairs), u2 is close, u3 and u4 are far."""
    bench.add("reference", {f"r{i}": scene(i) for i in (1, 2)}, groups={"r1": "g"})
    names = ["q1", "q2", "q3", "u1", "u2", "u3", "u4"]
    bench.add("pool", {name: scene(i + 10) for i, name in enumerate(names)}, groups={"u4": "g"})
    bench.embed("reference", ["r1", "r2"], [unit(1, 0, 0), unit(0, 1, 0)])
    vectors = [unit(1, 0.1, 0), unit(1, 0.12, 0), unit(0.4, 1, 0), unit(1, 0.14, 0), unit(0.6, 0, 1), unit(0.1, 0, 1)]
    bench.embed("pool", names, [*vectors, unit(1, 0, 0.2)])
    mine(MineConfig(bench.workspace.root, top=3, max_per_reference=2))
    return bench.workspace


@pytest.mark.slow
def test_pool_images_close_to_a_reference(unmined):
    assert set(all_candidates(unmined, "test")["query_id"].to_pylist()) == {"q1", "q2", "q3"}
    find = close_to_references(unmined)
    assert find(["u1", "u2", "u3", "unknown"]) == {"u1"}
    assert find([]) == set()
    (unmined.embeddings("pool", MODEL) / "run.json").unlink()
    assert close_to_references(unmined) is None  # no vectors to compare


@pytest.mark.slow
def test_unmined_images_go_to_annotation(unmined, decide, capsys):
    decide(unmined, "test", decisions_of(unmined, q1="edited_copy", q2="edited_copy", q3="edited_copy"))
    rows = read_table(run(RecheckConfig(unmined.root, distractors=2))).to_pylist()
    assert [(row["query_id"], row["reference_id"], row["rank"]) for row in rows] == [("u1", "r1", 4), ("u2", "r1", 5)]
    assert rows[0]["score"] > rows[1]["score"]
    said = " ".join(capsys.readouterr().err.split())
    assert "2 unmined pool images: the closest pair of each goes to annotation" in said
    assert "1 of them reach the mining cut" in said
    assert read_json(unmined.candidates("test") / "recheck.run.json")["counts"]["unmined_images"] == 2
    assert len(new_pairs(unmined)) == 2
    more = read_table(run(RecheckConfig(unmined.root, distractors=9)))  # u4 has the group of a reference
    assert more["query_id"].to_pylist() == ["u1", "u2", "u3"]
    assert len(read_table(run(RecheckConfig(unmined.root, distractors=9)))) == 3  # nothing is left


def test_training_has_no_distractors(tmp_path):
    with pytest.raises(UsageError, match="--distractors is for split test"):
        run(RecheckConfig(tmp_path, "train", distractors=1))
