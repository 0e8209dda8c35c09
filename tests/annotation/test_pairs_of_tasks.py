"""Tasks in memory of which the last were added by the running push."""

from __future__ import annotations

import pyarrow as pa

from ndec_builder.annotation.records.pairs_of_tasks import PairsOfTasks
from ndec_builder.annotation.status import _by_rater


def chunk(pair: str, annotator: str) -> pa.Table:
    names = {"round": "first", "annotator": annotator}
    columns = {name: pa.array([value]).dictionary_encode() for name, value in names.items()}
    return pa.table({"pair_id": [pair], "batch": [0], "is_gold": [False], **columns})


def test_people_of_chunks_with_different_dictionaries_are_found() -> None:
    tasks = pa.concat_tables([chunk("a", "ann"), chunk("b", "ben")])
    assert tasks["annotator"].num_chunks == 2
    found = PairsOfTasks(tasks)
    assert found.assignees() == [("first", "ann"), ("first", "ben")]
    assert set(found.of("first", "ben")) >= {"b"}
    assert {key: rows.tolist() for key, rows in _by_rater(tasks).items()} == {
        ("first", "ann"): [0],
        ("first", "ben"): [1],
    }
