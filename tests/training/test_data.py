"""Manifest → training set: classes, directed pairs, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.manifests.read import open_manifest
from ndec_builder.training.data import _classes, read_images, read_training_set
from ndec_builder.training.recipes import TRAINING_RECIPES

Rows = dict[str, list[dict[str, Any]]]
Write = Callable[[Rows], Path]


def names(data: Any) -> list[str]:
    return data.images["image_id"].to_pylist()


def test_shared_and_own_classes(tables: Rows, write_manifest: Write) -> None:
    manifest = open_manifest(write_manifest(tables))
    shared = read_training_set(manifest, TRAINING_RECIPES["asl"])
    own = read_training_set(manifest, TRAINING_RECIPES["asl-negative"])
    basic = read_training_set(manifest, TRAINING_RECIPES["baseline"])
    count, extra = len(tables["train_basic"]), len(tables["train_pair_images"])
    assert (shared.basic, shared.images.num_rows, shared.class_count) == (count, count + extra, count)
    assert (own.class_count, basic.images.num_rows, len(basic.pairs)) == (count + extra, count, 0)
    for latter, former in shared.pairs:
        assert (names(shared)[latter], names(shared)[former])[0].replace("l", "b") == names(shared)[former]
        assert shared.classes[latter] == shared.classes[former] and own.classes[latter] != own.classes[former]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=9))
def test_a_chain_of_pairs_is_one_class_in_the_order_of_the_images(pairs: list[tuple[int, int]]) -> None:
    lowest = list(range(9))  # of each image's chain, found by taking the lower one until nothing changes
    for _ in range(9):
        for a, b in pairs:
            lowest[a] = lowest[b] = min(lowest[a], lowest[b])
    numbers = {row: number for number, row in enumerate(sorted(set(lowest)))}
    found = _classes(9, np.array(pairs, np.int64).reshape(-1, 2))
    assert found.tolist() == [numbers[row] for row in lowest] and found.dtype == np.int64


def test_pairs_in_both_directions_leave_the_norm_term(tables: Rows, write_manifest: Write) -> None:
    first = tables["train_pairs"][0]
    back = {**first, "pair_id": "zz", "latter_id": first["former_id"], "former_id": first["latter_id"]}
    tables["train_pairs"].append(back)
    data = read_training_set(open_manifest(write_manifest(tables)), TRAINING_RECIPES["asl"])
    assert data.facts()["pairs_in_both_directions"] == 2
    kept = {names(data)[latter] for latter, _ in data.pairs[data.directed]}
    assert kept == {pair["latter_id"] for pair in tables["train_pairs"][1:-1]}


def test_without_drops_pairs_and_renumbers(tables: Rows, write_manifest: Write) -> None:
    data = read_training_set(open_manifest(write_manifest(tables)), TRAINING_RECIPES["asl"])
    left = data.without({"b00", "l01", "b05"})
    assert left.basic == data.basic - 2 and not {"b00", "l01", "b05"} & set(names(left))
    assert {names(left)[row] for row in left.pairs[:, 0]} == {"l02", "l03"}
    assert sorted(set(left.classes.tolist())) == list(range(left.class_count))
    before = dict(zip(names(data), data.classes.tolist(), strict=True))
    after = dict(zip(names(left), left.classes.tolist(), strict=True))
    for a in after:
        for b in after:
            assert (after[a] == after[b]) == (before[a] == before[b])


@pytest.mark.parametrize("side", ["queries", "references"])
@pytest.mark.parametrize("column", ["sha256", "group"])
@pytest.mark.parametrize("table", ["train_basic", "train_pair_images"])
def test_overlap_with_the_test_side_is_refused(
    tables: Rows, write_manifest: Write, side: str, column: str, table: str
) -> None:
    tables[table][1][column] = tables[side][2][column]
    with pytest.raises(NdecError, match=f"{column}.*{side}.*forbidden"):
        read_images(open_manifest(write_manifest(tables)))


def test_images_without_a_group_do_not_overlap(tables: Rows, write_manifest: Write) -> None:
    tables["train_basic"][0]["group"] = tables["queries"][0]["group"] = None
    assert read_images(open_manifest(write_manifest(tables))).num_rows == len(tables["train_basic"]) + 4


def test_no_basic_images(tables: Rows, write_manifest: Write) -> None:
    tables["train_basic"] = []
    with pytest.raises(NdecError, match="no train_basic images"):
        read_training_set(open_manifest(write_manifest(tables)), TRAINING_RECIPES["baseline"])


def test_a_pair_with_an_unknown_image_or_with_itself(tables: Rows, write_manifest: Write) -> None:
    good = dict(tables["train_pairs"][0])
    tables["train_pairs"][0] = {**good, "latter_id": "nobody"}
    with pytest.raises(NdecError, match="latter_id 'nobody'"):
        read_training_set(open_manifest(write_manifest(tables)), TRAINING_RECIPES["asl"])
    tables["train_pairs"][0] = {**good, "latter_id": good["former_id"]}
    with pytest.raises(NdecError, match="with itself"):
        read_training_set(open_manifest(write_manifest(tables)), TRAINING_RECIPES["asl"])


def test_a_chain_of_pairs_is_one_class(tables: Rows, write_manifest: Write) -> None:
    tables["train_pairs"].append({**tables["train_pairs"][0], "pair_id": "x", "former_id": "b01"})
    data = read_training_set(open_manifest(write_manifest(tables)), TRAINING_RECIPES["asl"])
    label = dict(zip(names(data), data.classes.tolist(), strict=True))
    assert len({label[name] for name in ("l00", "b00", "b01", "l01")}) == 1
    assert np.bincount(data.classes).max() == 4
