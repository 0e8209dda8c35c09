"""No image that people labelled gets a role that contradicts the label, whatever was mined or ingested since."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.kept_queries import DROP_REASONS
from ndec_builder.candidates.twins import twins_path
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, EDITS, ROLES, TWINS, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.labelled_pairs import OPEN, OTHERWISE, SEVERAL
from ndec_builder.manifests.writing.lineage import _undecided
from ndec_builder.manifests.writing.twins import represented_sources
from support.decided_world import World, make_world
from support.votes import tasks_of

pytestmark = pytest.mark.slow

Key = tuple[str, str]


def kinds(directory: Path) -> dict[str, str]:
    rows = open_manifest(directory).table("queries").to_pylist()
    return {row["query_id"]: row["kind"] for row in rows}


def truth(directory: Path) -> dict[str, str | None]:
    return {row["query_id"]: row["reference_id"] for row in open_manifest(directory).table("ground_truth").to_pylist()}


def info(directory: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return value


def one_pair_left(world: World) -> None:
    """Mined again with a smaller --top: one pair is left of those that people labelled."""
    from support.decided_world import TEST_PAIRS

    world.tasks("test", [key for key, label in TEST_PAIRS.items() if label not in ("absent", "duplicate")])
    world.pairs("test", {("p-far", "r3"): "unrelated"})
    (world.workspace.candidates("test") / "recheck.parquet").unlink()


def test_a_smaller_mining_loses_no_label(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = kinds(run(ExportConfig(world.workspace.root, name="before")))
    one_pair_left(world)
    after = run(ExportConfig(world.workspace.root, name="after", distractors=100))
    found = kinds(after)
    assert {name: kind for name, kind in found.items() if not name.startswith("free")} == before | {
        name: kind
        for name, kind in found.items()
        if name in ("p-unseen", "p-dup")  # mined once, never labelled
    }
    drawn = {name for name, kind in found.items() if kind == "distractor"}
    assert not drawn & {"p-hard", "p-twin", "p-copy", "p-mixed", "p-unsure", "p-far", "p-whole", "t-good", "t-open"}
    text = " ".join(capsys.readouterr().err.split())
    assert "split test: 8 labelled pairs are no longer among the mined ones; such labels count" in text


def test_a_twin_of_a_labelled_image_is_no_distractor(world: World) -> None:
    world.images("pool", {"p-copy": (23, None), "seen-again": (23, None), "free": (60, None), "p-hard": (20, None)})
    world.pairs("test", {("p-copy", "r1"): "unsure", ("p-hard", "r1"): "hard_negative"})
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    world.decide("test", {("p-copy", "r1"): "unsure", ("p-hard", "r1"): "hard_negative"})
    found = kinds(run(ExportConfig(world.workspace.root, distractors=9)))
    assert "free" in found and not {"p-copy", "seen-again"} & set(found)


def test_twins_that_people_called_a_copy_and_a_hard_negative_are_left_out(world: World) -> None:
    world.images("pool", {"p-hard": (20, None), "p-twin": (20, None), "p-far": (29, None)})
    pairs = {("p-hard", "r1"): "hard_negative", ("p-twin", "r1"): "edited_copy"}
    world.pairs("test", pairs)
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    world.decide("test", pairs)
    directory = run(ExportConfig(world.workspace.root))
    assert not {"p-hard", "p-twin"} & set(kinds(directory))
    assert info(directory)["dropped"]["test_pool_images"] == {OTHERWISE: 1}


def test_confirmed_copies_become_queries_with_their_reference(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root))
    rows = {row["query_id"]: row for row in open_manifest(directory).table("queries").to_pylist()}
    assert (rows["p-copy"]["kind"], rows["p-copy"]["edit"], rows["p-copy"]["hard_kind"]) == ("edited_copy", None, None)
    assert truth(directory)["p-copy"] == "r1" and truth(directory)["p-mixed"] == "r3"
    assert info(directory)["confirmed_copies"] == 2 and info(directory)["settings"]["confirmed_copies"] is True
    assert "| edited_copy, found in the pool and labelled so | 2 |" in (directory / "README.md").read_text()
    assert not [finding for finding in validate(directory) if finding.is_error]


def test_confirmed_copies_can_be_left_out(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root, confirmed_copies=False))
    assert not {"p-copy", "p-mixed"} & set(kinds(directory)) and info(directory)["confirmed_copies"] == 0
    assert info(directory)["dropped"]["test_pool_images"]["edited_copy"] == 2
    assert "labelled so" not in (directory / "README.md").read_text()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({("p-copy", "r2"): "edited_copy"}, SEVERAL),
        ({("p-copy", "r2"): None}, OPEN),
        ({("p-copy", "r2"): "unsure"}, OPEN),
    ],
    ids=["two originals", "undecided", "unsure"],
)
def test_an_uncertain_copy_is_no_query(world: World, more: dict[Key, str | None], reason: str) -> None:
    pairs: dict[Key, str | None] = {("p-copy", "r1"): "edited_copy", ("p-hard", "r1"): "hard_negative"} | more
    world.pairs("test", pairs)
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    world.decide("test", pairs)
    directory = run(ExportConfig(world.workspace.root, distractors=100))
    assert "p-copy" not in kinds(directory)
    assert info(directory)["dropped"]["test_pool_images"] == {reason: 1}


def test_references_with_the_same_bytes_become_one(world: World) -> None:
    world.images("reference", {"r1": (1, "g1"), "r2": (2, "g2"), "r3": (3, None), "r3-again": (3, None)})
    world.truth(("mine", "r3-again"), ("stranger", None))
    directory = run(ExportConfig(world.workspace.root))
    assert open_manifest(directory).table("references")["image_id"].to_pylist() == ["r1", "r2", "r3"]
    assert truth(directory)["mine"] == "r3"
    assert info(directory)["dropped"]["references"] == {"twin_of_another_image": 1}
    assert not {finding.code for finding in validate(directory)} & {"M205", "M308"}


def test_near_exact_twins_that_mining_found_become_one(world: World) -> None:
    """r2 is shown by r1 too; p-copy, a copy of r2 by its label, is a twin of p-far, and free2 of free3."""
    for role, pairs in (("reference", {"r2": "r1"}), ("pool", {"p-copy": "p-far", "free3": "free2"})):
        rows = [{"image_id": a, "representative": b, "same_bytes": False} for a, b in pairs.items()]
        write_table(twins_path(world.workspace, role), table_of(TWINS, rows))
    pairs = {("p-copy", "r2"): "edited_copy", ("p-far", "r3"): "unrelated"}
    world.pairs("test", pairs)
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    world.decide("test", pairs)
    directory = run(ExportConfig(world.workspace.root, distractors=100))
    assert open_manifest(directory).table("references")["image_id"].to_pylist() == ["r1", "r3"]
    assert truth(directory)["copy-000001"] == "r1"  # made of r2
    assert kinds(directory)["p-far"] == "edited_copy" and truth(directory)["p-far"] == "r1"
    assert "p-copy" not in kinds(directory) and "free3" not in kinds(directory) and "free2" in kinds(directory)
    assert info(directory)["dropped"]["references"] == {"twin_of_another_image": 1}
    assert not [finding for finding in validate(directory) if finding.is_error]


def stale_labels(world: World) -> None:
    directory = world.workspace.annotation("test")
    names = ("labels.parquet",)
    record = {"stage": "annotate resolve", "inputs": {name: sha256_file(directory / name) for name in names}}
    write_json(directory / "resolve.run.json", record)
    run(ExportConfig(world.workspace.root))  # nothing is stale yet
    decisions = (directory / "decisions.parquet").read_bytes()
    world.decide("test", {("p-hard", "r1"): "edited_copy"})
    (directory / "decisions.parquet").write_bytes(decisions)  # labels were pulled, not resolved


def stale_candidates(world: World) -> None:
    path = world.workspace.candidates("test") / "run.json"
    images = {f"images/{role}.parquet": sha256_file(world.workspace.images(role)) for role in ("pool", "reference")}
    write_json(path, json.loads(path.read_text()) | {"images": images})
    run(ExportConfig(world.workspace.root))
    world.images("reference", {"r1": (1, "g1"), "r2": (2, "g2"), "r3": (33, None)})


def stale_candidates_of_version_0_1(world: World) -> None:
    images = {f"images/{role}.parquet": [1, 2, sha256_file(world.workspace.images(role))] for role in ("pool", "basic")}
    write_json(world.workspace.candidates("train") / "inputs.json", images)
    run(ExportConfig(world.workspace.root))
    world.images("basic", {"b1": (95, "bb"), "b2": (91, None)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (stale_labels, r"decisions of split test are older than its labels: run `ndec annotate resolve --split test`"),
        (stale_candidates, r"mined before the reference images were ingested again: run `ndec mine --split test`"),
        (stale_candidates_of_version_0_1, r"mined before the basic images .*: run `ndec mine --split train`"),
    ],
)
def test_results_older_than_their_inputs_are_refused(world: World, change: Any, message: str) -> None:
    change(world)
    with pytest.raises(NdecError, match=message):
        run(ExportConfig(world.workspace.root, name="later"))
    assert not world.workspace.manifest("later-1.0.0").exists()


LABELS = st.sampled_from(["edited_copy", "hard_negative", "unrelated", "unsure", None])
KEYS = [(query, reference) for query in ("p-hard", "p-whole", "p-copy", "p-far") for reference in ("r1", "r2", "r3")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_out=st.dictionaries(st.sampled_from(KEYS), LABELS, min_size=1),
    mined=st.sets(st.sampled_from(KEYS), min_size=1),
    distractors=st.integers(0, 60),
    twin=st.booleans(),
)
def test_no_labelled_image_contradicts_its_label(
    given_out: dict[Key, str | None], mined: set[Key], distractors: int, twin: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder))
        if twin:  # a second file with the bytes of p-hard
            pool = {row["image_id"]: (20 + place, None) for place, row in enumerate(
                world.workspace.read_images("pool").to_pylist())}  # fmt: skip
            world.images("pool", pool | {"a-twin": pool["p-hard"]})
        world.pairs("test", dict.fromkeys(sorted(mined)))
        (world.workspace.candidates("test") / "recheck.parquet").unlink()
        world.tasks("test", given_out)
        world.decide("test", given_out)
        directory = run(ExportConfig(world.workspace.root, distractors=distractors))
        found, matches = kinds(directory), truth(directory)
        represented = {"p-hard": "a-twin"} if twin else {}
        for (query, reference), label in given_out.items():
            name = represented.get(query, query)
            assert found.get(name) != "distractor", (query, label)
            if label == "edited_copy":
                assert found.get(name) != "hard_negative"
                assert name not in found or matches[name] == reference
            elif label in ("hard_negative", "unrelated", "unsure"):
                assert matches.get(name) != reference
        for name in {represented.get(query, query) for query, _ in mined | set(given_out)}:
            assert found.get(name) != "distractor"
        # every pool image of a pair is a query or is counted with a reason
        in_pairs = {represented.get(q, q) for q, _ in mined} | {
            represented.get(q, q) for (q, _), label in given_out.items() if label is not None
        }
        dropped = info(directory)["dropped"]["test_pool_images"]
        assert sum(dropped.values()) + len(in_pairs & set(found)) == len(in_pairs)
        assert set(dropped) <= {*DROP_REASONS, SEVERAL, OPEN}


def test_what_undecided_pairs_cost_is_counted(tmp_path: Path) -> None:
    """q1: hard and open. q2: hard, open and a copy: the copy drops it. q3: open, given to nobody. q4: hard alone."""
    workspace = Workspace(tmp_path)
    ends = [("a", "q1"), ("b", "q1"), ("c", "q2"), ("d", "q2"), ("e", "q2"), ("f", "q3"), ("g", "q4")]
    rows = [
        {"pair_id": pair, "split": "test", "query_id": query, "reference_id": f"r{pair}", "score": 0.9, "rank": n + 1}
        for n, (pair, query) in enumerate(ends)
    ]
    given = {"a": "hard_negative", "c": "hard_negative", "d": "edited_copy", "g": "hard_negative", "b": None, "e": None}
    decided = [{"pair_id": pair, "decision": label, "labels": 1} for pair, label in given.items()]
    tables = AnnotationTables(workspace, "test")
    tables.mined, tables.decisions = [table_of(CANDIDATES, rows)], table_of(DECISIONS, decided)
    tables.tasks = tasks_of([(pair, "first", "ann", "unsure") for pair in given])
    found = _undecided("test", tables)
    assert found == {"pairs": 3, "never_assigned": 1, "queries_dropped": 1, "hard_negatives": 1}
    assert _undecided("train", tables) == {"pairs": 3, "never_assigned": 1, "queries_dropped": 0, "hard_negatives": 0}


def test_the_source_of_a_copy_is_represented_by_the_twin_of_its_own_role() -> None:
    """Names are unique in a role only."""
    rows = [{"image_id": f"c{i}", "source_id": "x", "source_role": role} for i, role in enumerate(ROLES)]
    twins = {"reference": {"x": "r"}, "pool": {"x": "p"}, "basic": {}}
    found = represented_sources(table_of(EDITS, rows), twins).to_pylist()
    assert {row["source_role"]: row["source_id"] for row in found} == {
        "reference": "r",
        "pool": "p",
        "basic": "x",
        "query": "x",
    }
