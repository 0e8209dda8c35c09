"""What the second search and the second split may use: the cut, closed training images, images of the other split."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.annotation.staleness import stale_results
from ndec_builder.candidates import mining_cut
from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.recheck import close_to_references, run
from ndec_builder.candidates.settings import MineConfig, RecheckConfig
from ndec_builder.candidates.split_exclusions import split_mined_first, used_images
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, GOLD, TASKS, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.pictures import scene


def units(rng, count):
    vectors = rng.normal(size=(count, 16))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def given(bench, tmp_path):
    """12 pool images, 3 references; the only mined pair comes from a file and has the lowest score of all."""
    rng = np.random.default_rng(5)
    vectors = {"pool": units(rng, 12), "reference": units(rng, 3)}
    ids = {"pool": [f"p{n:02}" for n in range(12)], "reference": [f"r{n}" for n in range(3)]}
    for role, names in ids.items():
        bench.add(role, {name: scene(len(role) * 20 + n, (60, 60)) for n, name in enumerate(names)})
        bench.embed(role, names, vectors[role])
    stored = {role: v.astype(np.float16).astype(np.float64) for role, v in vectors.items()}
    scores = (stored["pool"] @ stored["reference"].T).astype(np.float32)
    q, r = np.unravel_index(scores.argmin(), scores.shape)
    (tmp_path / "pairs.csv").write_text(f"query_id,reference_id\n{ids['pool'][q]},{ids['reference'][r]}\n")
    mine(MineConfig(bench.workspace.root, pairs=tmp_path / "pairs.csv", geometry=False))
    # one pair per query, so the best of each; at most 10 per reference, which 6 pairs do not reach; 6 is half the pool
    cut = np.sort(scores.max(axis=1))[-6]
    return bench.workspace, scores, ids, int(q), float(cut)


def test_the_cut_of_given_pairs_is_that_of_a_search(given):
    workspace, scores, ids, _, cut = given
    expected = {name for name, row in zip(ids["pool"], scores, strict=True) if row.max() >= cut}
    assert close_to_references(workspace)(ids["pool"]) == expected and len(expected) == 6


def test_recheck_of_given_pairs_finds_what_reaches_this_cut(given, decide, capsys):
    workspace, scores, ids, q, cut = given
    decide(workspace, "test", {all_candidates(workspace, "test")["pair_id"][0].as_py(): "hard_negative"})
    run(RecheckConfig(workspace.root))
    found = all_candidates(workspace, "test")["reference_id"].to_pylist()[1:]
    assert sorted(found) == [name for name, score in zip(ids["reference"], scores[q], strict=True) if score >= cut]
    assert read_json(workspace.candidates("test") / "recheck.run.json")["cut"] == cut
    assert "that of a search with --top 6, because none found the mined pairs" in capsys.readouterr().err


def test_the_cut_of_given_pairs_is_searched_once(given, monkeypatch):
    workspace, *_ = given
    close_to_references(workspace)
    monkeypatch.setattr(mining_cut, "find_pairs", None)  # searching again would fail
    assert close_to_references(workspace) is not None


def test_the_cut_of_given_pairs_is_searched_again_for_other_vectors(given, bench, tmp_path):
    workspace, _, ids, *_ = given
    close_to_references(workspace)
    pool, references = np.random.default_rng(6), np.random.default_rng(7)
    vectors = units(pool, 12), units(references, 3)
    for role, some in zip(("pool", "reference"), vectors, strict=True):
        bench.embed(role, ids[role], some)
    mine(MineConfig(workspace.root, pairs=tmp_path / "pairs.csv", geometry=False))
    stored = [some.astype(np.float16).astype(np.float64) for some in vectors]
    best = (stored[0] @ stored[1].T).astype(np.float32).max(axis=1)
    expected = {name for name, score in zip(ids["pool"], best, strict=True) if score >= np.sort(best)[-6]}
    assert close_to_references(workspace)(ids["pool"]) == expected


@pytest.mark.slow
def test_a_mining_that_is_stopped_while_it_writes_its_result_has_to_run_again(given, decide, tmp_path, monkeypatch):
    """The pairs of the file are written, and the record is still that of the search."""
    workspace, *_ = given
    root, pairs = workspace.root, tmp_path / "pairs.csv"
    mine(MineConfig(root, top=6, geometry=False))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.candidates.mine.write_mined_sheet", _interrupt)
        mine(MineConfig(root, pairs=pairs, geometry=False))
    decide(workspace, "test", {all_candidates(workspace, "test")["pair_id"][0].as_py(): "hard_negative"})
    with pytest.raises(NdecError, match="was stopped while it wrote its result"):
        run(RecheckConfig(root))
    assert "are of a mining that was stopped" in str(stale_results(workspace)[0])
    mine(MineConfig(root, pairs=pairs, geometry=False))
    run(RecheckConfig(root))
    assert not stale_results(workspace)


def test_the_first_mining_that_is_stopped_while_it_writes_its_result_has_to_run_again(bench, decide, monkeypatch):
    bench.add("reference", {f"r{i}": scene(i) for i in range(3)})
    bench.add("pool", {f"p{i}": scene(9 + i) for i in range(3)})
    config = MineConfig(bench.workspace.root, top=2, geometry=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.candidates.mine.renew_rechecked", _interrupt)
        mine(config)
    decide(bench.workspace, "test", {all_candidates(bench.workspace, "test")["pair_id"][0].as_py(): "hard_negative"})
    assert "are of a mining that was stopped" in str(stale_results(bench.workspace)[0])
    with pytest.raises(NdecError, match="was stopped while it wrote its result"):
        run(RecheckConfig(bench.workspace.root))
    mine(config)
    assert not stale_results(bench.workspace)


@pytest.mark.slow
def test_a_mining_that_is_stopped_after_its_geometry_does_not_leave_the_pairs_before_as_finished(
    bench, tmp_path, monkeypatch
):
    bench.add("reference", {f"r{i}": scene(i) for i in range(3)})
    bench.add("pool", {f"p{i}": scene(i).rotate(3) for i in range(3)})
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\np0,r0\n")
    config = MineConfig(bench.workspace.root, top=3)
    directory = mine(config)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.candidates.mine.remember_mined", _interrupt)
        mine(MineConfig(bench.workspace.root, pairs=tmp_path / "pairs.csv"))
    assert "are of a mining that was stopped" in str(stale_results(bench.workspace)[0])
    mine(config)
    pairs, measured = (read_table(directory / f"{name}.parquet")["pair_id"] for name in ("candidates", "geometry"))
    assert sorted(pairs.to_pylist()) == sorted(measured.to_pylist()) and len(pairs) == 3


def _interrupt(*_):
    raise KeyboardInterrupt


def test_the_cut_of_pairs_by_local_features_alone_is_that_of_a_search(given):
    workspace, scores, ids, *_, cut = given
    path = workspace.candidates("test") / "run.json"
    record = read_json(path)
    write_json(path, record | {"config": record["config"] | {"pairs": None, "shortlist": "local"}})
    expected = {name for name, row in zip(ids["pool"], scores, strict=True) if row.max() >= cut}
    assert close_to_references(workspace)(ids["pool"]) == expected


def test_recheck_of_training_offers_no_image_that_a_reference_closes(bench, decide):
    bench.add("reference", {"r1": scene(1)}, groups={"r1": "g"})
    bench.add("pool", {"p1": scene(2), "p2": scene(3)})
    bench.add("basic", {"b-closed": scene(4), "b-bytes": scene(1), "b-free": scene(5), "b-last": scene(6)},
              groups={"b-closed": "g"})  # fmt: skip
    bench.embed("pool", ["p1", "p2"], [np.array([1.0, 0]), np.array([0, 1.0])])
    near = [np.array([np.cos(a), np.sin(a)]) for a in (0.01, 0.02, 0.03, 0.04)]
    bench.embed("basic", ["b-bytes", "b-closed", "b-free", "b-last"], near)
    mine(MineConfig(bench.workspace.root, "train", top=2, geometry=False))
    rows = all_candidates(bench.workspace, "train").to_pylist()
    assert ("p1", "b-free") in {(row["query_id"], row["reference_id"]) for row in rows}
    decide(bench.workspace, "train", {row["pair_id"]: "hard_negative" for row in rows})
    run(RecheckConfig(bench.workspace.root, "train"))
    found = {(row["query_id"], row["reference_id"]) for row in all_candidates(bench.workspace, "train").to_pylist()}
    assert {reference for query, reference in found if query == "p1"} == {"b-free", "b-last"}


def write_candidates(workspace, split, name, queries):
    rows = [{"pair_id": pair_id(split, q, "r"), "query_id": q, "reference_id": "r", "rank": 1} for q in queries]
    write_table(workspace.candidates(split) / name, table_of(CANDIDATES, rows))


def test_every_pool_image_of_the_first_split_is_used(tmp_path):
    """Mined now or earlier, rechecked, given to people, in a gold pair; not a gold query of another role."""
    workspace = Workspace(tmp_path)
    write_candidates(workspace, "test", "candidates.parquet", ["mined"])
    write_candidates(workspace, "test", "recheck.parquet", ["rechecked"])
    write_candidates(workspace, "test", "mined.parquet", ["formerly"])
    write_json(workspace.candidates("test") / "run.json", {})
    tasks = [{"query_id": name, "is_gold": gold} for name, gold in (("task", False), ("pool-gold", True), ("q1", True))]
    gold = [{"query_id": name, "query_role": role} for name, role in (("pool-gold", "pool"), ("q1", "query"))]
    for name, rows, schema in (("tasks", tasks, TASKS), ("gold", gold, GOLD)):
        write_table(workspace.annotation("test") / f"{name}.parquet", table_of(schema, rows))
    expected = {"mined", "rechecked", "formerly", "task", "pool-gold"}
    assert used_images(workspace, "test") == expected and split_mined_first(workspace, "train").used == expected


@pytest.mark.slow
def test_training_does_not_take_images_of_an_earlier_larger_test_mining(bench):
    bench.add("reference", {f"r{n}": scene(n) for n in range(3)})
    bench.add("basic", {f"b{n}": scene(10 + n) for n in range(3)})
    bench.add("pool", {f"p{n}": scene(20 + n) for n in range(6)})
    first = mine(MineConfig(bench.workspace.root, top=4, geometry=False))
    labelled = set(all_candidates(bench.workspace, "test")["query_id"].to_pylist())
    assert first and len(labelled) == 4
    mine(MineConfig(bench.workspace.root, top=2, geometry=False))
    mine(MineConfig(bench.workspace.root, "train", top=6, geometry=False))
    trained = set(all_candidates(bench.workspace, "train")["query_id"].to_pylist())
    assert trained == {f"p{n}" for n in range(6)} - labelled
