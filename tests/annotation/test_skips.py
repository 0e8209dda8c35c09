"""Skipped pairs and withdrawn labels: the rows stay, and they decide nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation.records.skips import label_states, skipped_keys, without_withdrawn
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, SKIPS, table_of

KEY = {"pair_id": "p", "round": "first", "annotator": "ann"}
EVENTS = st.lists(st.sampled_from([*LABELS, "skip", "delete", "again"]), max_size=12)


def tables_after(events: list[str]) -> tuple[Any, Any]:
    """The tables after one annotator did these things on one pair, as `pull` and `push` write them."""
    labels: list[dict[str, Any]] = []
    skips: list[dict[str, Any]] = []
    kinds = {"skip": "skipped", "delete": "deleted", "again": "offered_again"}
    for event in events:
        if event in LABELS:
            labels.append(KEY | {"label": event})
        else:
            skips.append(KEY | {"kind": kinds[event], "label_rows": len(labels)})
    return table_of(LABEL_ROWS, labels), table_of(SKIPS, skips)


@given(EVENTS)
def test_only_the_labels_after_the_last_withdrawal_are_valid(events: list[str]) -> None:
    labels, skips = tables_after(events)
    last = max((n for n, event in enumerate(events) if event not in LABELS), default=-1)
    assert without_withdrawn(labels, skips)["label"].to_pylist() == [e for e in events[last + 1 :] if e in LABELS]


@given(EVENTS)
def test_a_pair_is_skipped_if_the_last_thing_that_happened_was_a_skip(events: list[str]) -> None:
    labels, skips = tables_after(events)
    assert bool(skipped_keys([labels], skips)) == (events[-1:] == ["skip"])


@given(EVENTS)
def test_the_state_has_the_label_that_stands(events: list[str]) -> None:
    labels, skips = tables_after(events)
    state = label_states(labels, skips).get(("p", "first", "ann"))
    expected = events[-1] if events and events[-1] in LABELS else None
    assert (state.label if state else None) == expected


def test_other_annotators_rounds_and_pairs_are_untouched() -> None:
    rows = [
        KEY | {"label": "unsure"} | other for other in ({}, {"pair_id": "q"}, {"annotator": "ben"}, {"round": "audit"})
    ]
    skips = table_of(SKIPS, [KEY | {"kind": "skipped", "label_rows": 1}])
    assert (
        without_withdrawn(table_of(LABEL_ROWS, rows), skips).to_pylist() == table_of(LABEL_ROWS, rows[1:]).to_pylist()
    )
