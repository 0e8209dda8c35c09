"""When the last annotator is done, at the current speeds."""

from __future__ import annotations

from ndec_builder.annotation.status import finish_text


def test_the_projected_finish_is_that_of_the_last_annotator() -> None:
    rows = [
        {"annotator": name, "pairs": 100, "left": left, "hours_left": hours}
        for name, left, hours in [("ann", 40, 1.5), ("ann", 20, 0.5), ("ben", 30, 1.9), ("cleo", 100, None)]
    ]
    text = finish_text(rows)
    assert text.startswith("190 of 400 tasks left") and "the last (ann) is done after 2.0 more hours" in text
    assert text.endswith("the speed of cleo is not known yet")
    assert finish_text(rows[:0]) == "0 of 0 tasks left"


def test_an_annotator_without_open_pairs_is_not_the_last() -> None:
    rows = [
        {"annotator": name, "pairs": 28, "left": left, "hours_left": 0.0} for name, left in [("alice", 0), ("bob", 6)]
    ]
    assert finish_text(rows).endswith("the last (bob) is done after a few more minutes of work")
