"""Which pairs later rounds give to people when a later mining no longer finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.annotation import resolve
from ndec_builder.annotation.settings import PushConfig, ResolveConfig
from ndec_builder.annotation.staleness import older_decisions
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import CANDIDATES, IMAGES, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import Vote, labels_of, push_rows, tasks_of


@pytest.mark.parametrize(
    ("round_", "second"),
    [("double_check", "hard_negative"), ("adjudication", "edited_copy"), ("audit", "hard_negative")],
)
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
    assert sorted((task["pair_id"], task["query_id"], task["annotator"]) for task in added) == [
        ("former", "q-former", "eve"),
        ("mined", "q-mined", "eve"),
    ]


def test_an_audit_is_about_pairs_whose_images_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dataset cannot have the others, so the bound must not count them as kept."""
    workspace, pairs = Workspace(tmp_path), [f"p{number}" for number in range(8)]
    for role, side in (("pool", "q"), ("reference", "r")):
        rows = [{"image_id": f"{side}-{pair}", "role": role, "uri": "u", "sha256": pair} for pair in pairs[:6]]
        write_table(workspace.images(role), table_of(IMAGES, rows))
    mined = [
        {
            "pair_id": pair,
            "split": "test",
            "query_id": f"q-{pair}",
            "reference_id": f"r-{pair}",
            "rank": 1,
            "score": 0.9,
        }
        for pair in pairs[:4]
    ]
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, mined))
    votes: list[Vote] = [(pair, "first", "ann", "hard_negative") for pair in pairs]
    votes += [(pair, "audit", "eve", "hard_negative") for pair in pairs[:5]]
    tables = AnnotationTables(workspace, "test")
    tables.write("tasks", tasks_of([*votes, ("p5", "audit", "eve", ""), ("p6", "audit", "eve", "")]))
    tables.write("labels", labels_of(votes))
    resolve.run(ResolveConfig(tmp_path))
    said = " ".join(capsys.readouterr().err.split())
    assert "2 labelled pairs are no longer among the mined ones; such labels count" in said
    assert "2 labelled pairs are of images that were removed; no dataset has them" in said
    audit = read_json(tables.directory / "agreement.json")["audit"]
    assert (audit["kept"], audit["drawn"], audit["audited"]) == (6, 6, 5)
    assert read_json(tables.directory / "audit.json")["kept"] == 6

    assert older_decisions(workspace, "test") == ""
    recheck = workspace.candidates("test") / "recheck.parquet"
    write_table(recheck, table_of(CANDIDATES, []))
    assert older_decisions(workspace, "test") == ""
    write_table(recheck, table_of(CANDIDATES, [mined[0] | {"pair_id": "new", "reference_id": "r-p1"}]))
    assert "an audit or a certificate of other pairs" in older_decisions(workspace, "test")  # q-p0 is undecided now
    recheck.unlink()
    assert older_decisions(workspace, "test") == ""
    images = read_table(workspace.images("pool")).to_pylist()
    write_table(workspace.images("pool"), table_of(IMAGES, images[:5]))  # without that of a pair no longer mined
    assert "an audit or a certificate of other pairs" in older_decisions(workspace, "test")
    resolve.run(ResolveConfig(tmp_path))
    assert older_decisions(workspace, "test") == ""
    assert read_json(tables.directory / "agreement.json")["audit"]["kept"] == 5
