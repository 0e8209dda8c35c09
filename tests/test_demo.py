"""Logic of the demo; CI runs the complete demo (`make demo DEMO_FLAGS="--size small"`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import UsageError
from ndec_builder.demo.run import DemoConfig, run
from ndec_builder.demo.summary_table import DemoTable

pytestmark = pytest.mark.slow


def value(number: float | None) -> dict[str, float | None]:
    low, high = (None, None) if number is None else (number - 0.1, number + 0.1)
    return {"value": number, "low": low, "high": high}


def metrics(uap: float, tp_kept: float | None, fp_kept: float | None) -> dict[str, Any]:
    keys = ("precision_at_n", "precision_after_filter", "recovered", "gap_closed", "held")
    return {
        **{key: value(0.5) for key in keys},
        "uap": value(uap),
        "uap_without_hard_negatives": value(0.8),
        "tp_kept": value(tp_kept),
        "fp_kept": value(fp_kept),
        "n": 10,
        "protocol": {"search": "all pairs"},
    }


TABLE = DemoTable(
    mined={"test": {"pairs": 4, "duplicates": 1, "edited_copy": 1 / 3, "hard_negative": 2 / 3, "unrelated": 0.0}},
    queries={"edited_copy": 5, "natural": 3, "reverse_crop": 2, "distractor": 4},
    train_pairs=7,
    natural_groups=3,
    labelled_by=["oracle"],
    detectors={"plain": metrics(0.5, None, None), "filtered": metrics(0.6, 0.7, 0.3)},
    reports={"plain": "a/report.html"},
    seconds=90.0,
)


def test_the_table_says_what_was_found_and_what_is_simulated() -> None:
    text = TABLE.as_text()
    assert "4 pairs, 1 exact duplicates; labelled: 33% edited copies, 67% hard negatives" in text
    assert "5 queries (3 natural of 3 scenes and families, 2 reverse crops), 7 training pairs" in text
    assert "annotator `oracle`, simulated" in text
    assert "too few scenes (3, at least 20 are needed): no figure claimed" in text
    assert "70% / 30%" in text
    assert text.count(": yes") == 2
    assert "simulated" not in replace(TABLE, labelled_by=["alice"]).as_text()
    assert "no figure claimed" not in replace(TABLE, natural_groups=30).as_text()


def test_a_claim_that_does_not_hold_is_reported() -> None:
    worse = replace(TABLE, detectors={"plain": metrics(0.9, None, None), "filtered": metrics(0.6, 0.2, 0.3)})
    assert set(worse.claims().values()) == {False}
    assert worse.as_text().count(": NO") == 2


def test_a_directory_with_other_files_or_a_different_demo_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="holds no demo"):
        run(DemoConfig(tmp_path))
    (tmp_path / "demo.json").write_text('{"size": "full", "seed": 0, "images": null}')
    with pytest.raises(UsageError, match="holds a demo of"):
        run(DemoConfig(tmp_path, size="small"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.json", "mine.txt"]
