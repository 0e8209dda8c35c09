"""Which pairs later rounds give to people when a later mining no longer finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.annotation.settings import PushConfig
from ndec_builder.core.schemas import CANDIDATES, IMAGES, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from support.votes import Vote, labels_of, push_rows, tasks_of


@pytest.mark.parametrize(("round_", "second"), [("double_check", "hard_negative"), ("adjudication", "edited_copy")])
def test_later_rounds_have_labelled_pairs_that_are_no_longer_mined(tmp_path: Path, round_: str, second: str) -> None:
    pairs = ("mined", "former", "removed")
    images = [{"image_id": f"{side}-{pair}", "role": role, "uri": "u", "sha256": "s"}
              for pair in pairs[:2] for side, role in (("q", "pool"), ("r", "reference"))]  # fmt: skip
    for role in ("pool", "reference"):
        rows = [image for image in images if image["role"] == role]
        write_table(Workspace(tmp_path).images(role), table_of(IMAGES, rows))
    votes: list[Vote] = [(pair, "first", "ann", "hard_negative") for pair in pairs]
    votes += [(pair, "first", "ben", second) for pair in pairs]
    row = {"pair_id": "mined", "split": "test", "query_id": "q-mined", "reference_id": "r-mined", "rank": 1}
    config = PushConfig(tmp_path, round=round_, annotators=("eve",))
    added = push_rows(config, [table_of(CANDIDATES, [row])], tasks_of(votes), labels_of(votes)).to_pylist()
    assert [(task["pair_id"], task["query_id"], task["annotator"]) for task in added] == [
        ("mined", "q-mined", "eve"),
        ("former", "q-former", "eve"),
    ]
