"""Gold pairs: true by construction, indistinguishable from other pairs, and never part of a result."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation import resolve
from ndec_builder.annotation.assignment import gold_pairs as gold_module
from ndec_builder.annotation.assignment.gold_pairs import gold_count, gold_needed, make_gold, mix_in_gold
from ndec_builder.annotation.label_studio.task_sync import task_data
from ndec_builder.annotation.records.pictures import gold_images
from ndec_builder.annotation.settings import PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import status, status_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.web.image_server import ImageServer
from ndec_builder.core.decode import decode
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import GOLD, IMAGES, LABEL_ROWS, TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits.operations import apply_edits
from ndec_builder.manifests.writing.lineage import lineage

SIZE = (320, 240)


@pytest.fixture
def bench(tmp_path: Path, make_candidates: Any) -> Workspace:
    workspace = Workspace(tmp_path)
    make_candidates(workspace, count=10, size=SIZE)
    return workspace


def picture(workspace: Workspace, role: str, image_id: str) -> np.ndarray:
    table = read_table(gold_images(workspace)) if role == "gold" else workspace.read_images(role)
    row = next(row for row in table.to_pylist() if row["image_id"] == image_id)
    return np.asarray(decode(Path(workspace.resolve(row["uri"])).read_bytes()), np.int32)


@pytest.mark.slow
def test_gold_is_true_by_construction_and_records_how_it_was_made(bench: Workspace) -> None:
    table = make_gold(AnnotationTables(bench, "test"), 9, seed=3)
    assert table.schema.equals(GOLD) and table.num_rows == 9 and len(set(table["pair_id"].to_pylist())) == 9
    kinds = Counter(table["kind"].to_pylist())
    assert kinds["edited_copy"] in (4, 5) and kinds["reverse_crop"] and kinds["two_crops"]
    for row in table.to_pylist():
        source = decode(
            Path(bench.resolve(next(r["uri"] for r in bench.read_images(row["source_role"]).to_pylist()
                                    if r["image_id"] == row["source_id"]))).read_bytes()
        )  # fmt: skip
        query = picture(bench, row["query_role"], row["query_id"])
        if row["kind"] == "edited_copy":
            assert row["truth"] == "edited_copy" and row["reference_id"] == row["source_id"]
            made = np.asarray(apply_edits(source, json.loads(row["edit"])["edits"]), np.int32)
            assert made.shape == query.shape and np.abs(made - query).mean() < 4  # but for the JPEG around it
            continue
        assert row["truth"] in ("hard_negative", "no_copy") and row["source_role"] == "pool"
        how = json.loads(row["edit"])
        left, right = how["query_box"] or [0, 0, 1, 1], how["reference_box"]
        outside = (left[2] - left[0]) * (left[3] - left[1]) - overlap(left, right)
        assert outside >= 0.1  # of the source's area: the query shows what the reference lacks
        reference = picture(bench, row["reference_role"], row["reference_id"])
        width, height = source.size
        box = (int(right[0] * width), int(right[1] * height), round(right[2] * width), round(right[3] * height))
        cut = np.asarray(source.crop(box), np.int32)
        assert cut.shape == reference.shape and np.abs(cut - reference).mean() < 4


def overlap(a: list[float], b: list[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@pytest.mark.slow
def test_gold_is_made_once_and_grows_outside_the_roles(bench: Workspace) -> None:
    make_gold(AnnotationTables(bench, "test"), 5, seed=0)
    again = make_gold(AnnotationTables(bench, "test"), 3, seed=0)
    assert again.num_rows == 5
    more = make_gold(AnnotationTables(bench, "test"), 8, seed=0)
    assert more.slice(0, 5).equals(again) and more.num_rows == 8
    listed = read_table(gold_images(bench))
    assert listed.schema.equals(IMAGES) and listed["image_id"].to_pylist() == sorted(listed["image_id"].to_pylist())
    for row in listed.to_pylist():
        assert sha256_file(Path(bench.resolve(row["uri"]))) == row["sha256"]
    mine = set(listed["image_id"].to_pylist())
    for role in ("pool", "reference"):
        assert not mine & set(bench.read_images(role)["image_id"].to_pylist())
    shown = set(read_table(bench.candidates("test") / "candidates.parquet")["query_id"].to_pylist())
    used = [row["source_id"] for row in more.to_pylist() if row["source_role"] == "pool"]
    assert not set(used[:2]) & shown  # pool images that no mined pair shows come first
    with pytest.raises(NdecError, match=r"only \d+ of 200 gold pairs could be made"):
        make_gold(AnnotationTables(bench, "test"), 200, seed=0)


def test_small_images_give_no_gold(tmp_path: Path, make_candidates: Any) -> None:
    workspace = Workspace(tmp_path)
    make_candidates(workspace, count=4, size=(64, 48))
    with pytest.raises(NdecError, match="smaller than 128 px"):
        make_gold(AnnotationTables(workspace, "test"), 1, seed=0)


def new_rows(pairs: dict[str, int], round_: str = "first", batch: int = 1, start: int = 1) -> pa.Table:
    """So many pairs for each person."""
    rows = [
        {"pair_id": f"{name}-{number:04d}", "round": round_, "annotator": name, "batch": batch,
         "position": start + number, "query_id": "q", "reference_id": "r", "is_gold": False}
        for name, count in pairs.items()
        for number in range(count)
    ]  # fmt: skip
    return table_of(TASKS, rows)


def gold_table(count: int) -> pa.Table:
    return table_of(
        GOLD, [{"pair_id": f"{n:016x}", "query_id": f"g{n}", "reference_id": f"h{n}"} for n in range(count)]
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["ann", "ben", "cleo"]), st.integers(1, 80), min_size=1),
    st.floats(0.01, 0.5),
    st.integers(0, 9),
)
def test_mixing_keeps_the_pairs_and_their_order_and_adds_the_share(
    people: dict[str, int], share: float, seed: int
) -> None:
    new, none = new_rows(people), table_of(TASKS, [])
    gold = gold_table(gold_needed(new, none, share))
    mixed = mix_in_gold(new, gold, share, none, seed)
    assert mixed.filter(pa.array([not row for row in mixed["is_gold"].to_pylist()])).num_rows == new.num_rows
    for name, count in people.items():
        own = [row for row in mixed.to_pylist() if row["annotator"] == name]
        planted = [row["pair_id"] for row in own if row["is_gold"]]
        assert len(planted) == len(set(planted)) == gold_count(count, share)
        assert (len(planted) - 1) / len(own) < share <= len(planted) / len(own) + 1e-9
        assert [row["position"] for row in own] == list(range(1, len(own) + 1))
        assert [row["pair_id"] for row in own if not row["is_gold"]] == [f"{name}-{n:04d}" for n in range(count)]
    assert mix_in_gold(new, gold, share, none, seed).equals(mixed)


def test_no_annotator_gets_a_gold_pair_twice_and_places_are_random() -> None:
    share, none = 0.2, table_of(TASKS, [])
    first = mix_in_gold(new_rows({"ann": 100}), gold_table(60), share, none, 0)
    places = [row["position"] for row in first.to_pylist() if row["is_gold"]]
    assert np.mean(places) == pytest.approx(63, abs=25) and len(set(np.diff(places))) > 3
    later = new_rows({"ann": 60, "ben": 60}, "double_check", batch=2, start=200)
    assert gold_needed(later, first, share) == 25 + 15
    second = mix_in_gold(later, gold_table(60), share, first, 0)
    had = {row["pair_id"] for row in first.to_pylist() if row["is_gold"]}
    got = {
        n: {r["pair_id"] for r in second.to_pylist() if r["is_gold"] and r["annotator"] == n} for n in ("ann", "ben")
    }
    assert not had & got["ann"] and len(got["ann"]) == len(got["ben"]) == 15 and got["ann"] != got["ben"]
    assert min(row["position"] for row in second.to_pylist()) == 200


@pytest.mark.slow
def test_neither_task_nor_image_server_reveals_a_gold_pair(bench: Workspace) -> None:
    gold = make_gold(AnnotationTables(bench, "test"), 2, seed=0).to_pylist()
    mined = read_table(bench.candidates("test") / "candidates.parquet").to_pylist()[:2]
    rows = [
        {"round": "first", "annotator": "ann", "batch": 1, "position": number + 1, "is_gold": row in gold}
        | {name: row[name] for name in ("pair_id", "query_id", "reference_id")}
        for number, row in enumerate([gold[0], mined[0], gold[1], mined[1]])
    ]
    with ImageServer(bench, 0) as images:
        write_table(bench.annotation("test") / "tasks.parquet", table_of(TASKS, rows))
        shapes = []
        for row in rows:
            data = task_data(images.url, row)
            assert len(row["pair_id"]) == 16 and int(row["pair_id"], 16) >= 0
            shapes.append(str(data).replace(row["pair_id"], "ID").replace(f"'position': {row['position']}", "P"))
            for side in ("query", "reference"):
                answer = requests.get(data[side])
                assert answer.status_code == 200 and "X-Ndec-Missing" not in answer.headers
                headers = {key: value for key, value in answer.headers.items() if key not in ("Date", "Content-Length")}
                shapes.append(str(sorted(headers.items())))
        assert len(set(shapes)) == 2  # one form of the task data, one of the answers
        for row in gold:  # by its own number a made picture cannot be asked for
            assert requests.get(f"{images.url}/image/gold/{row['query_id']}").status_code == 404
        view = requests.get(f"{images.url}/pair/{gold[0]['pair_id']}/difference.jpg")
        assert view.status_code == 200 and view.headers["Content-Type"] == "image/jpeg"
        next(bench.files("gold").glob(f"{gold[0]['query_id']}.jpg")).unlink()
        gone = requests.get(f"{images.url}/pair/{gold[0]['pair_id']}/query")
        assert gone.headers["X-Ndec-Missing"] == "1"


def test_labels_of_gold_pairs_measure_annotators_and_decide_nothing(bench: Workspace) -> None:
    gold = make_gold(AnnotationTables(bench, "test"), 40 // 5, seed=0).to_pylist()
    mined = read_table(bench.candidates("test") / "candidates.parquet").to_pylist()
    tasks = [
        {"round": "first", "annotator": name, "batch": 1, "position": number + 1, "is_gold": row in gold}
        | {column: row[column] for column in ("pair_id", "query_id", "reference_id")}
        for name in ("good", "bad")
        for number, row in enumerate(gold + mined)
    ]
    truth = {row["pair_id"]: row["truth"] for row in gold}
    labels = [
        {name: task[name] for name in ("pair_id", "round", "annotator", "batch", "is_gold")}
        | {"label": "hard_negative" if task["annotator"] == "bad" or truth.get(task["pair_id"]) != "edited_copy"
           else "edited_copy", "seconds": 3.0}
        for task in tasks
    ]  # fmt: skip
    directory = bench.annotation("test")
    write_table(directory / "tasks.parquet", table_of(TASKS, tasks))
    write_table(directory / "labels.parquet", table_of(LABEL_ROWS, labels))
    decisions = read_table(resolve.run(ResolveConfig(bench.root)))
    assert not set(truth) & set(decisions["pair_id"].to_pylist()) and decisions.num_rows == len(mined)
    found = read_json(directory / "agreement.json")
    people = {row["annotator"]: row["gold"] for row in found["annotators"]}
    copies = sum(label == "edited_copy" for label in truth.values())
    assert people["good"]["right"] == people["good"]["n"] == 8
    assert people["bad"]["n"] == 8 and people["bad"]["right"] == 8 - copies
    assert found["comparisons"][0]["pairs"] == len(mined) and found["kappa"] is None  # of mined pairs: all alike
    assert f"8/8 ({people['good']['low']:.0%}–100%)" in status_text(status(StatusConfig(bench.root)))
    (bench.candidates("test") / "run.json").write_text('{"config": {"model": "m"}}')
    exported = lineage(bench)["test"]["labels"]
    assert sum(row["count"] for row in exported) == 2 * len(mined)
    assert AnnotationTables(bench, "train").gold.num_rows == 0


def test_an_impossible_share_of_gold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gold is 0\.9"):
        PushConfig(tmp_path, gold=0.9)
    assert gold_module.LEAST_CONTENT < 0.2  # the recipe's smallest crop: a copy of it is still fair
