"""An attribution table whose ids are in both roles: a row is about one image."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.candidates.attribution import only_clear_rows, read_attribution
from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.recheck import run as recheck
from ndec_builder.candidates.settings import MineConfig, RecheckConfig
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_table, write_table
from support.pictures import scene


@pytest.fixture
def same_ids(bench):
    """Ids 1 and 2 in both roles, of four different pictures; each pool image is nearest to the reference of its id."""
    for role, first in (("pool", 0), ("reference", 10)):
        bench.add(role, {str(n): scene(first + n) for n in (1, 2)})
        bench.embed(role, ["1", "2"], list(np.eye(2)))
    return bench


def photos(bench, path):
    mine(MineConfig(bench.workspace.root, top=2, attribution=path, geometry=False))
    rows = all_candidates(bench.workspace, "test").to_pylist()
    return {(row["query_id"], row["reference_id"]): (row["same_photo"], row["duplicate_of"]) for row in rows}


def test_a_row_of_an_id_in_both_roles_is_not_used(same_ids, tmp_path, capsys):
    (tmp_path / "table.csv").write_text("image_id,role,photo_id\n1,,77\n2,pool,78\n2,reference,79\n")
    assert photos(same_ids, tmp_path / "table.csv") == {("1", "1"): (None, None), ("2", "2"): (False, None)}
    said = " ".join(capsys.readouterr().err.split())
    assert "1 row is not used, '1' first, because two different images have this id" in said
    assert "2 of the 2 images of" in said


def test_images_that_were_never_opened_may_be_different(same_ids, tmp_path, capsys):
    sides = []
    for role in ("pool", "reference"):
        path = same_ids.workspace.images(role)
        table = read_table(path)
        index = table.schema.get_field_index("sha256")
        write_table(path, table.set_column(index, table.schema.field(index), pa.nulls(len(table), pa.string())))
        sides.append(SimpleNamespace(role=role, table=path))
    rows = {("", "1"): {"photo_id": "77"}}
    assert only_clear_rows(tmp_path / "table.csv", rows, tuple(sides)) == {}
    assert "1 row is not used" in " ".join(capsys.readouterr().err.split())


def test_rows_with_roles_make_a_duplicate(same_ids, tmp_path):
    (tmp_path / "table.csv").write_text("image_id,role,photo_id\n1,pool,77\n1,reference,77\n")
    assert photos(same_ids, tmp_path / "table.csv")["1", "1"] == (True, "1")


def test_one_picture_in_both_roles_needs_no_role(same_ids, tmp_path):
    for role in ("pool", "reference"):
        same_ids.add(role, {"1": scene(5), "2": scene(len(role))})
        same_ids.embed(role, ["1", "2"], list(np.eye(2)))
    (tmp_path / "table.csv").write_text("image_id,photo_id\n1,77\n")
    assert photos(same_ids, tmp_path / "table.csv")["1", "1"] == (True, "1")


def test_recheck_uses_the_same_rows(same_ids, decide, tmp_path):
    (tmp_path / "table.csv").write_text("image_id,photo_id\n1,77\n")
    same_ids.embed("reference", ["1", "2"], [np.array([0.6, 0.8]), np.array([0.8, 0.6])])
    assert set(photos(same_ids, tmp_path / "table.csv")) == {("1", "2"), ("2", "1")}
    same_ids.embed("reference", ["1", "2"], [np.array([0.9, 0.1]), np.array([0.8, 0.6])])
    rows = all_candidates(same_ids.workspace, "test").to_pylist()
    decide(same_ids.workspace, "test", {row["pair_id"]: "hard_negative" for row in rows})
    recheck(RecheckConfig(same_ids.workspace.root))
    found = {(r["query_id"], r["reference_id"]): r for r in all_candidates(same_ids.workspace, "test").to_pylist()}
    assert found["1", "1"]["same_photo"] is None and found["1", "1"]["duplicate_of"] is None


def test_an_unknown_role_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("image_id,role,photo_id\n1,queries,77\n")
    with pytest.raises(UsageError, match=r"line 2 of .* has the role 'queries'; it is one of"):
        read_attribution(tmp_path / "table.csv")
