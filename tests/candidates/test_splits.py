from __future__ import annotations

import pyarrow as pa

from ndec_builder.candidates.role_vectors import load_role_vectors
from ndec_builder.candidates.split_exclusions import count_reasons, near_duplicates_of_used, skip_reasons
from support.pictures import scene

MODEL = "efficientnet-lite0"


def _row(image_id, sha256, group=None):
    return {"image_id": image_id, "sha256": sha256, "group": group, "uri": f"{image_id}.png", "rotation": 0}


def test_used_images_their_bytes_and_groups_are_skipped_but_null_groups_are_no_group():
    pool = pa.Table.from_pylist(
        [
            _row("used", "1", "g"),
            _row("used-alone", "2"),
            _row("used-unopened", None),
            _row("twin", "1", "other"),
            _row("sibling", "3", "g"),
            _row("free", "4"),
            _row("free-empty", "5", ""),
            _row("free-unopened", None),
            _row("closed", "6", "ref-group"),
        ]
    )
    reasons = skip_reasons(pool, {"used", "used-alone", "used-unopened", "gone-since"}, {"ref-group", ""})
    assert set(reasons) == {"used", "used-alone", "used-unopened", "twin", "sibling", "closed"}
    assert count_reasons(reasons) == {
        "duplicate of an image used by the other split": 1,
        "group of a reference": 1,
        "group used by the other split": 1,
        "used by the other split": 3,
    }
    assert skip_reasons(pool, set(), {"", None}) == {}


def test_near_duplicates_of_used_images(bench):
    pictures = {"a-used": scene(1), "b-half": scene(1).resize((96, 72)), "c-free": scene(2)}
    bench.add("pool", pictures)
    workspace = bench.workspace
    pool = load_role_vectors(workspace, "pool", MODEL)
    assert near_duplicates_of_used(workspace, pool, {"a-used"}, "train") == {"b-half"}
    assert near_duplicates_of_used(workspace, pool, set(), "train") == set()
    assert near_duplicates_of_used(workspace, pool, set(pictures), "train") == set()
