"""Logic of the demo; CI runs the complete demo (`make demo DEMO_FLAGS="--size small"`)."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import LABEL_ROWS, SKIPS, TASKS, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.originals import find_own
from ndec_builder.demo.run import DEMO_SIZES, DemoConfig, _claim, _label, introduction, make_manifest, run, scaled_to
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
    places={"report: plain": "a/report.html"},
)


def test_the_table_says_what_was_found_and_what_is_simulated() -> None:
    text = TABLE.as_text()
    assert "4 pairs, 1 exact duplicate; the others: 33% edited copies, 67% hard negatives" in text
    assert "5 queries (3 natural of 3 scenes and families, 2 reverse crops), 7 training pairs" in text
    assert "annotator `oracle`, simulated" in text
    assert "too few scenes (3, at least 20 needed): these numbers prove nothing" in text
    assert text.splitlines()[-1].split() == ["report:", "plain", "a/report.html"]  # ends with where to look
    assert "70% / 30%" in text
    assert text.count(": yes") == 2
    assert "simulated" not in replace(TABLE, labelled_by=["alice"]).as_text()
    assert "prove nothing" not in replace(TABLE, natural_groups=30).as_text()


def test_the_introduction_says_where_the_labels_come_from(tmp_path: Path) -> None:
    assert "SIMULATED" in introduction(DemoConfig(tmp_path)) and "packages" in introduction(DemoConfig(tmp_path))
    own = introduction(DemoConfig(tmp_path, images=Path("photos"), annotate_yourself=True))
    assert "SIMULATED" not in own and "You label the pairs yourself" in own and "the pictures in photos" in own


@pytest.mark.parametrize(("yourself", "had"), [(True, "oracle"), (False, "you")])
def test_labels_of_a_person_and_of_the_oracle_are_not_mixed(tmp_path: Path, yourself: bool, had: str) -> None:
    config = DemoConfig(tmp_path / "demo", annotate_yourself=yourself)
    _claim(config)
    path = Workspace(config.out).annotation("train") / "tasks.parquet"
    write_table(path, table_of(TASKS, [{"pair_id": "p", "annotator": had}]))
    with pytest.raises(UsageError, match=f"run it {'without' if yourself else 'with'} --annotate-yourself, or"):
        _claim(config)
    _claim(replace(config, annotate_yourself=not yourself))


def test_a_skipped_pair_does_not_make_the_demo_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Workspace(tmp_path).annotation("test")
    both, waits = [{"pair_id": pair, "round": "first", "annotator": "you"} for pair in "ab"], []

    def pull(*_: object, **__: object) -> None:
        write_table(folder / "tasks.parquet", table_of(TASKS, both))
        write_table(folder / "labels.parquet", table_of(LABEL_ROWS, [both[0] | {"label": "unrelated"}]))
        if waits:  # skipped while the demo waited
            write_table(folder / "skips.parquet", table_of(SKIPS, [both[1] | {"kind": "skipped", "label_rows": 0}]))

    monkeypatch.setattr("time.sleep", waits.append)
    server = SimpleNamespace(url="http://127.0.0.1:1", user="you", secrets="secrets.json")
    _label(DemoConfig(tmp_path, annotate_yourself=True), server, "test", "you", pull)
    said = capsys.readouterr().err
    assert waits == [20] and "1 of 2 pairs are labelled or skipped" in said
    assert "1 pair was skipped: no label decides there" in said


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


def pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        (folder / f"day{number % 2}").mkdir(parents=True, exist_ok=True)
        (folder / f"day{number % 2}" / f"IMG_{number // 2:04}.jpg").write_bytes(b"not opened")
    return folder


def test_a_busy_second_port_is_reported_with_the_option_that_the_demo_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        config = DemoConfig(out=tmp_path / "demo", port=port - 1)
        with pytest.raises(NdecError, match=rf"^port {port} .* choose another with `--port NUMBER`.* and the next one"):
            make_manifest(config)


def test_too_few_pictures_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", 39)
    with pytest.raises(UsageError, match="holds 39 pictures; the demo needs at least 40"):
        run(DemoConfig(tmp_path / "out", images=folder))
    assert not (tmp_path / "out").exists()


def test_equal_names_in_two_folders_get_ids_by_path(tmp_path: Path) -> None:
    found = find_own(pictures(tmp_path / "photos", 4))
    assert sorted(image_id for image_id, _ in found) == [
        "day0__IMG_0000", "day0__IMG_0001", "day1__IMG_0000", "day1__IMG_0001",
    ]  # fmt: skip
    assert {path.parent.name + "__" + path.stem for _, path in found} == {image_id for image_id, _ in found}


def corpus_counts(natural: int, crops: int, copies: int, reference: int, distractors: int) -> dict[str, Any]:
    part = {
        "pool_natural": natural, "pool_reverse_crops": crops, "pool_edited_copies": copies,
        "pool_distractors": distractors,
    }  # fmt: skip
    return {"test": part, "train": part, "reference": reference, "usable": 60, "duplicates_dropped": 8, "originals": 70}


def test_sizes_are_scaled_to_a_small_corpus() -> None:
    size = scaled_to(DEMO_SIZES["full"], corpus_counts(2, 5, 3, 30, 6))
    assert (size.top_test, size.top_train) == (8, 8)  # four fifths of ten
    assert (size.copies, size.distractors) == (17, 6)
    assert (size.views, size.steps) == (DEMO_SIZES["full"].views, DEMO_SIZES["full"].steps)


def test_sizes_never_exceed_those_of_the_demo() -> None:
    assert scaled_to(DEMO_SIZES["small"], corpus_counts(900, 900, 900, 9000, 9000)) == DEMO_SIZES["small"]


def test_a_split_without_pairs_says_how_many_pictures_were_usable() -> None:
    with pytest.raises(NdecError, match="only 52 of 70 pictures are different and usable"):
        scaled_to(DEMO_SIZES["small"], corpus_counts(0, 0, 0, 5, 1))


class Recorder:
    """Takes the place of the stages; keeps which ran, in order."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, Any]] = []

    def __call__(self, title: str, verb: str, **flags: Any) -> Path:
        self.ran.append((verb, flags.get("split") or flags.get("role")))
        return Path("result")

    def servers(self, config: DemoConfig) -> Any:
        return contextlib.nullcontext()

    def timed(self, title: str, work: Any) -> None:
        self.ran.append((title, None))


def test_all_that_mining_reads_exists_before_it(tmp_path: Path) -> None:
    """Vectors of the training images made after `mine test` would let a resumed demo mine and export again."""
    stages = Recorder()
    make_manifest(DemoConfig(tmp_path / "out"), stages)  # type: ignore[arg-type]
    assert stages.ran.index(("embed", "basic")) < stages.ran.index(("mine", "test"))
