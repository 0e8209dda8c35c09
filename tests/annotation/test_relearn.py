"""`ndec annotate relearn` on a workspace: what it writes, who uses it, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.annotation import relearn
from ndec_builder.annotation.decisions.label_statistics import doubtful_pairs, posterior_of, prior_of
from ndec_builder.annotation.label_tables import copy_probabilities, with_relearnt
from ndec_builder.annotation.relearn import folds_by_group
from ndec_builder.annotation.settings import PushConfig, RelearnConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import (
    CANDIDATES,
    GEOMETRY,
    IMAGES,
    LABEL_ROWS,
    LABELS,
    pair_id,
    table_of,
)
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import push_rows

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 500


@pytest.fixture
def bench(tmp_path: Path) -> tuple[Workspace, dict[str, str]]:
    """COUNT pairs whose geometry tells copies from others, labelled by two people; the truth by pair."""
    workspace, rng = Workspace(tmp_path), np.random.default_rng(0)
    truth, candidates, geometry, labels = {}, [], [], []
    for number in range(COUNT):
        query, reference = f"q{number:03d}", f"r{number % 120:03d}"
        pair = pair_id("test", query, reference)
        truth[pair] = str(rng.choice(LABELS[:3], p=[0.3, 0.4, 0.3]))
        fits = rng.random() < {"edited_copy": 0.95, "hard_negative": 0.7, "unrelated": 0.1}[truth[pair]]
        local = float(np.clip(rng.normal(0.9 if truth[pair] == "edited_copy" else 0.4, 0.2), -1, 1))
        candidates.append(
            {"pair_id": pair, "split": "test", "query_id": query, "reference_id": reference, "score": 0.5,
             "rank": number + 1, "prelabel": "edited_copy" if fits else "hard_negative", "prelabel_confidence": 0.6}
        )  # fmt: skip
        if number == 7:
            candidates[-1] |= {"duplicate_of": "r000", "prelabel": None, "prelabel_confidence": None}
        geometry.append({"pair_id": pair, "inliers": 0, "inlier_share": 0.0, "matches": 3, "match_density": 0.1})
        if fits:
            geometry[-1] |= {"inliers": 40, "local_correlation": local, "homography": list(np.eye(3).ravel())}
        if number != 7:
            label = truth[pair] if rng.random() > 0.05 else str(rng.choice(LABELS))
            labels.append(
                {"pair_id": pair, "round": "first", "annotator": f"p{number % 2}", "label": label, "seconds": 3.0,
                 "annotated_at": START + timedelta(seconds=number), "is_gold": False, "batch": 1}
            )  # fmt: skip
    images = [
        {"image_id": f"r{n:03d}", "role": "reference", "group": f"g{n // 2}" if n % 3 else None} for n in range(120)
    ]
    write_table(workspace.images("reference"), table_of(IMAGES, images))
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, candidates))
    write_table(workspace.candidates("test") / "geometry.parquet", table_of(GEOMETRY, geometry))
    write_table(workspace.annotation("test") / "labels.parquet", table_of(LABEL_ROWS, labels))
    return workspace, truth


def test_labels_become_prelabels(bench: tuple[Workspace, dict[str, str]]) -> None:
    workspace, truth = bench
    path = relearn.run(RelearnConfig(workspace.root))
    table = read_table(path)
    assert table.num_rows == COUNT - 1  # nobody is shown the duplicate
    assert table["pair_id"].to_pylist() == sorted(table["pair_id"].to_pylist())
    found = AnnotationTables(workspace, "test").relearnt
    copies = [found[pair][0] for pair in found if truth[pair] == "edited_copy"]
    others = [found[pair][0] for pair in found if truth[pair] != "edited_copy"]
    assert np.mean(copies) > 0.6 > 0.2 > np.mean(others)
    report = read_json(workspace.annotation("test") / "prelabels.json")
    assert report["labelled"] == COUNT - 1 and report["auc"] > 0.85 > report["first_auc"]
    again = path.read_bytes()
    relearn.run(RelearnConfig(workspace.root))
    assert path.read_bytes() == again


def test_relearnt_prelabels_replace_the_first_ones(bench: tuple[Workspace, dict[str, str]]) -> None:
    workspace, _ = bench
    relearn.run(RelearnConfig(workspace.root))
    found = AnnotationTables(workspace, "test").relearnt
    table = read_table(workspace.candidates("test") / "candidates.parquet")
    changed = with_relearnt(table, found)
    assert changed.schema == table.schema
    for row, before in zip(changed.to_pylist(), table.to_pylist(), strict=True):
        if row["pair_id"] not in found:  # the duplicate
            assert row == before
            continue
        copy = found[row["pair_id"]][0]
        assert row["prelabel"] == ("edited_copy" if copy >= 0.5 else "hard_negative")
        assert row["prelabel_confidence"] == pytest.approx(max(copy, 1 - copy), abs=1e-6)
    prior = prior_of([table], found)
    assert all(prior[pair] == value for pair, value in found.items())
    labels = read_table(workspace.annotation("test") / "labels.parquet")
    tables = AnnotationTables(workspace, "test").candidates
    assert copy_probabilities(tables) == pytest.approx({pair: three[0] for pair, three in found.items()}, abs=1e-6)
    config = PushConfig(workspace.root, round="double_check", double_check="uncertain", annotators=("p0", "p1", "p2"))
    pushed = push_rows(config, tables, labels=labels)
    assert set(pushed["pair_id"].to_pylist()) == doubtful_pairs(*posterior_of(labels, prior), 0.01, 0.05)
    assert 0 < pushed.num_rows < COUNT


def test_the_likeliest_hard_negatives_come_first(bench: tuple[Workspace, dict[str, str]]) -> None:
    workspace, _ = bench
    config = PushConfig(workspace.root, annotators=("p0", "p1"), overlap=0.0, order="likeliest", count=60)
    with pytest.raises(NdecError, match="relearn` first"):
        push_rows(config, AnnotationTables(workspace, "test").candidates)
    relearn.run(RelearnConfig(workspace.root))
    found = AnnotationTables(workspace, "test").relearnt
    given = push_rows(config, AnnotationTables(workspace, "test").candidates)["pair_id"].to_pylist()
    best = sorted((three[1] for three in found.values()), reverse=True)[:60]
    assert [found[pair][1] for pair in given] == best


def test_a_fold_is_a_group() -> None:
    groups = [f"g{n}" for n in range(200)]
    folds = folds_by_group(groups)
    assert set(folds) == set(range(5)) and list(folds_by_group(groups[::-1])) == list(folds[::-1])
    assert list(folds_by_group(["g3", "g3", "g9"])) == [folds[3], folds[3], folds[9]]


def test_too_few_labels_are_refused(bench: tuple[Workspace, dict[str, str]]) -> None:
    workspace, _ = bench
    path = workspace.annotation("test") / "labels.parquet"
    write_table(path, read_table(path).slice(0, 150))
    with pytest.raises(NdecError, match="150 labelled pairs"):
        relearn.run(RelearnConfig(workspace.root))


def test_relearn_needs_geometry(bench: tuple[Workspace, dict[str, str]]) -> None:
    workspace, _ = bench
    (workspace.candidates("test") / "geometry.parquet").unlink()
    with pytest.raises(NdecError, match="have no geometry"):
        relearn.run(RelearnConfig(workspace.root))


@pytest.mark.parametrize("name", ["tolerance", "discard_tolerance"])
def test_a_tolerance_is_a_probability(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0.7"):
        PushConfig(tmp_path, **{name: 0.7})
