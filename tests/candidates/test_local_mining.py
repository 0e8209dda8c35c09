"""`ndec mine --shortlist`: pairs that share local features enter annotation, where the descriptor lost them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.candidates.geometry.table import read_geometry
from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.recheck import close_to_references
from ndec_builder.candidates.recheck import run as recheck
from ndec_builder.candidates.settings import MineConfig, RecheckConfig
from ndec_builder.candidates.split_exclusions import used_images
from ndec_builder.cli import app
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.described_bench import Bench
from support.pictures import scene, textured


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float64)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def lost(bench: Bench) -> Workspace:
    """Pool image q2 is a copy of r2 that the descriptor finds least similar of all; q1 is close to r1."""
    pasted = scene(9, (400, 300))
    pasted.paste(textured(2), (50, 30))
    bench.add("reference", {"r1": textured(1), "r2": textured(2)})
    bench.add("pool", {"q1": textured(3), "q2": pasted})
    bench.embed("reference", ["r1", "r2"], [unit(1, 0, 0), unit(0, 1, 0)])
    bench.embed("pool", ["q1", "q2"], [unit(1, 0.2, 0), unit(0.3, -0.5, 1)])
    return bench.workspace


def pairs_of(table: pa.Table) -> list[tuple[str, str, int]]:
    return list(zip(*(table[name].to_pylist() for name in ("query_id", "reference_id", "rank")), strict=True))


def config(workspace: Workspace, shortlist: str) -> MineConfig:
    return MineConfig(workspace.root, top=1, shortlist=shortlist, workers=1)


@pytest.mark.slow
def test_the_copy_that_the_descriptor_lost_is_one_more_candidate(lost: Workspace) -> None:
    directory = mine(config(lost, "both"))
    found = read_table(directory / "local.parquet")
    assert found.schema.equals(CANDIDATES, check_metadata=True)
    assert pairs_of(read_table(directory / "candidates.parquet")) == [("q1", "r1", 1)]
    assert pairs_of(found) == [("q2", "r2", 2)] and found["inliers"][0].as_py() > 0
    assert pairs_of(all_candidates(lost, "test")) == [("q1", "r1", 1), ("q2", "r2", 2)]
    assert set(found["pair_id"].to_pylist()) <= set(read_geometry(lost, "test")["pair_id"].to_pylist())
    assert read_json(directory / "run.json")["counts"]["local_pairs"] == 1
    score = read_table(directory / "candidates.parquet")["score"][0].as_py()  # the cut is that of the descriptor
    assert close_to_references(lost)(["q1", "q2"]) == {"q1"}
    assert score == pytest.approx(read_json(directory / "run.json")["cut"])
    assert "q2" in (directory / "contact_sheet.html").read_text("utf-8")


@pytest.mark.slow
def test_its_pool_image_is_no_hard_negative_until_people_decide_and_no_distractor(lost: Workspace) -> None:
    table = all_candidates(lost, "test") if (mine(config(lost, "both"))) else None
    assert table is not None
    decisions = table_of(DECISIONS, [{"pair_id": table["pair_id"][0].as_py(), "decision": "hard_negative"}])
    kept = kept_queries(table, decisions)
    assert set(kept.kept) == {"q1"} and kept.dropped == {"q2": "undecided"}
    write_table(lost.annotation("test") / "decisions.parquet", decisions)
    assert read_table(recheck(RecheckConfig(lost.root, distractors=5)))["query_id"].to_pylist() == []


@pytest.mark.slow
def test_local_alone_lists_only_pairs_that_fit(lost: Workspace) -> None:
    arguments = ["mine", "--shortlist", "local", "--top", "2", "--workspace", str(lost.root)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    directory = lost.candidates("test")
    assert pairs_of(read_table(directory / "candidates.parquet")) == [("q2", "r2", 1)]
    assert not (directory / "local.parquet").exists()


@pytest.mark.slow
def test_mining_globally_again_removes_the_local_pairs(lost: Workspace) -> None:
    directory = mine(config(lost, "both"))
    marks = [read_json(directory / "run.json")["fingerprint"]]
    mine(config(lost, "global"))
    marks.append(read_json(directory / "run.json")["fingerprint"])
    assert not (directory / "local.parquet").exists() and marks[0] != marks[1]
    assert pairs_of(all_candidates(lost, "test")) == [("q1", "r1", 1)]
    assert used_images(lost, "test") == {"q1", "q2"}  # remembered: q2 is no distractor and not for training


@pytest.mark.slow
def test_pictures_without_keypoints_have_no_local_pair(bench: Bench) -> None:
    flat = textured(1).resize((4, 3)).resize((160, 120))
    bench.add("reference", {"r1": flat})
    bench.add("pool", {"q1": flat.rotate(3)})
    bench.embed("reference", ["r1"], [unit(1, 0, 0)])
    bench.embed("pool", ["q1"], [unit(1, 0.2, 0)])
    assert read_table(mine(config(bench.workspace, "both")) / "local.parquet").num_rows == 0
    with pytest.raises(NdecError, match="no pair that shares local features"):
        mine(config(bench.workspace, "local"))


def test_local_pairs_need_geometry_and_a_search(lost: Workspace) -> None:
    with pytest.raises(UsageError, match="leave --geometry on"):
        MineConfig(lost.root, shortlist="both", geometry=False)
    with pytest.raises(UsageError, match="leave out --shortlist local"):
        MineConfig(lost.root, shortlist="local", pairs=lost.root / "pairs.csv")
