"""Images are embedded in another space after mining: old scores and new vectors are never compared."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.recheck import close_to_references, run
from ndec_builder.candidates.settings import MineConfig, RecheckConfig
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, read_table, write_json
from support.pictures import scene

POOL, REFERENCES = ["q1", "q2", "u1"], ["r1", "r2"]
FIRST = {"pool": [(1, 0.1), (0.2, 1), (1, 1)], "reference": [(1, 0), (0, 1)]}
SECOND = {"pool": [(1, 0.5), (0.4, 1), (1, 0.6)], "reference": [(1, 0), (0.3, 1)]}


def units(vectors):
    return [np.array(v) / np.linalg.norm(v) for v in vectors]


def embed(bench, vectors, space):
    for role, ids in (("pool", POOL), ("reference", REFERENCES)):
        bench.embed(role, ids, units(vectors[role]), space=space)


@pytest.fixture
def decided(bench, decide):
    """q1–r1 and q2–r2 are mined; q1 is kept."""
    bench.add("pool", {name: scene(n) for n, name in enumerate(POOL)})
    bench.add("reference", {name: scene(20 + n) for n, name in enumerate(REFERENCES)})
    embed(bench, FIRST, "first")
    mine(MineConfig(bench.workspace.root, top=2, geometry=False))
    rows = all_candidates(bench.workspace, "test").to_pylist()
    assert [(row["query_id"], row["reference_id"]) for row in rows] == [("q1", "r1"), ("q2", "r2")]
    decide(bench.workspace, "test", {row["pair_id"]: "hard_negative" for row in rows})
    return bench


def test_the_cut_is_not_applied_to_vectors_of_another_space(decided):
    embed(decided, SECOND, "second")
    with pytest.raises(NdecError, match=r"made again after split test was mined.*Run `ndec mine --split test` again"):
        run(RecheckConfig(decided.workspace.root))
    assert close_to_references(decided.workspace) is None


def test_a_mining_that_did_not_record_its_space_goes_on(decided):
    path = decided.workspace.candidates("test") / "run.json"
    write_json(path, {k: v for k, v in read_json(path).items() if k not in ("space", "precision")})
    embed(decided, FIRST, "unknown then")
    assert close_to_references(decided.workspace)(["u1"]) == set()  # .71 is below the cut, .98
    assert len(read_table(run(RecheckConfig(decided.workspace.root)))) == 0


def test_a_finished_mining_gets_its_space_when_it_runs_again(decided):
    path = decided.workspace.candidates("test") / "run.json"
    write_json(path, {k: v for k, v in read_json(path).items() if k not in ("space", "precision")})
    mine(MineConfig(decided.workspace.root, top=2, geometry=False))
    assert read_json(path)["space"] == "first"
    embed(decided, SECOND, "second")
    assert close_to_references(decided.workspace) is None


@pytest.mark.slow
@pytest.mark.parametrize("top", [2, 3])
def test_mining_again_scores_and_numbers_the_rechecked_pairs_again(decided, top):
    root = decided.workspace.root
    found = read_table(run(RecheckConfig(root, distractors=1))).to_pylist()
    assert [(row["query_id"], row["reference_id"], row["rank"]) for row in found] == [("u1", "r1", 3)]
    embed(decided, SECOND, "second")
    mine(MineConfig(root, top=top, max_per_query=0, geometry=False))
    rows = all_candidates(decided.workspace, "test").to_pylist()
    stored = {
        role: dict(zip(ids, np.array(units(SECOND[role]), np.float16).astype(np.float64), strict=True))
        for role, ids in (("pool", POOL), ("reference", REFERENCES))
    }
    assert [row["score"] for row in rows] == [
        float(np.float32(stored["pool"][row["query_id"]] @ stored["reference"][row["reference_id"]])) for row in rows
    ]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert ("u1", "r1") in {(row["query_id"], row["reference_id"]) for row in rows}


@pytest.mark.slow
def test_rechecked_pairs_of_images_that_are_gone_are_left_out(decided, capsys):
    root = decided.workspace.root
    run(RecheckConfig(root, distractors=1))
    decided.add("pool", {"q1": scene(0), "q2": scene(1)})
    decided.embed("pool", ["q1", "q2"], units(FIRST["pool"][:2]), space="first")
    mine(MineConfig(root, top=2, geometry=False))
    assert all_candidates(decided.workspace, "test")["query_id"].to_pylist() == ["q1", "q2"]
    assert "1 pair of an earlier recheck left out" in capsys.readouterr().err
