from __future__ import annotations

import numpy as np

from ndec_builder.candidates.splits import count_reasons, near_duplicates, skip_reasons
from pictures import scene


def _row(image_id, sha256, group=None):
    return {"image_id": image_id, "sha256": sha256, "group": group, "uri": f"{image_id}.png", "rotation": 0}


def test_used_images_their_bytes_and_groups_are_skipped_but_null_groups_are_no_group():
    pool = {
        row["image_id"]: row
        for row in (
            _row("used", "1", "g"),
            _row("used-alone", "2"),
            _row("twin", "1", "other"),
            _row("sibling", "3", "g"),
            _row("free", "4"),
            _row("free-empty", "5", ""),
            _row("closed", "6", "ref-group"),
        )
    }
    reasons = skip_reasons(pool, {"used", "used-alone", "gone-since"}, {"ref-group", ""})
    assert set(reasons) == {"used", "used-alone", "twin", "sibling", "closed"}
    assert count_reasons(reasons) == {
        "duplicate of an image used by the other split": 1,
        "group used by the other split": 2,
        "used by the other split": 2,
    }


def test_near_duplicates_of_used_images(bench):
    pictures = {"a-used": scene(1), "b-half": scene(1).resize((96, 72)), "c-free": scene(2)}
    bench.add("pool", pictures)
    rows = {row["image_id"]: row for row in bench.workspace.read_images("pool").to_pylist()}

    vectors = np.load(bench.workspace.embeddings("pool", "efficientnet-lite0") / "part-00000.npy")
    resolve = bench.workspace.resolve
    assert near_duplicates(rows, list(pictures), vectors, {"a-used"}, resolve) == {"b-half"}
    assert near_duplicates(rows, list(pictures), vectors, set(), resolve) == set()
    assert near_duplicates(rows, list(pictures), vectors, set(pictures), resolve) == set()
