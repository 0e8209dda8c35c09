"""A few of the faults of write_points.py and two_commands.py, one of each kind; the scripts run all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.labelling_bench import Bench
from faults.labelling_scenes import SCENES
from faults.syscalls import Watched, available
from faults.two_commands import meet
from faults.write_points import AT_CALLS, Points, Tally, indexes
from ndec_builder.annotation.records import ledger
from ndec_builder.core.schemas import SKIPS, table_of
from ndec_builder.core.storage import write_json, write_table
from support.needs import missing
from support.processes import folder_in_memory


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    if reason := available():
        missing(reason)
    with folder_in_memory("write-points") as folder:
        made = Bench(folder)
        yield made
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pull", "export"])
def test_a_fault_of_each_kind_loses_nothing(bench: Bench, name: str) -> None:
    scene = next(scene for scene in SCENES if scene.name == name)
    bench.keep(scene)
    points, tally = Points(bench), Tally()
    places: dict[str, list[int]] = {}
    for kind, number in indexes(bench, scene):
        places.setdefault(kind, []).append(number)
    for kind, numbers in places.items():  # in the middle, where some tables are written and others are not
        points.fault(scene, kind, numbers[len(numbers) // 2], tally)
    assert set(AT_CALLS) <= set(places)
    assert tally.wrong == []


@pytest.mark.slow
def test_send_back_can_run_again_after_a_kill_at_its_last_change(bench: Bench) -> None:
    """The work is complete, and there is no label left to send back: that is no error."""
    scene = next(scene for scene in SCENES if scene.name == "send-back")
    bench.keep(scene)
    last, tally = bench.calls[scene.name][-1], Tally()
    assert (last.name, last.path) == ("unlink", "annotation/.test.lock")
    assert Points(bench).fault(scene, "killed", last.number, tally) == []
    assert tally.reruns == 1


@pytest.mark.slow
def test_a_second_command_is_refused_or_waits(bench: Bench) -> None:
    *_, met = meet(bench, "pull", "export", 13)
    assert met.points == met.refused + met.serial and met.refused > 0
    assert met.wrong == []


@pytest.mark.slow
def test_the_supervisor_fails_exactly_the_call_that_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    def work() -> int:
        for number in range(3):
            try:
                (tmp_path / f"{number}.txt").write_text("x")
            except OSError as error:
                return error.errno or 0
        return 0

    ended = Watched(work, tmp_path, tmp_path.parent / "log", lambda call: 28 if call.path == "1.txt" else 0).wait()
    assert ended.code == 28
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.txt"]
    assert [call.name for call in ended.calls] == ["open", "write", "open"]


def test_keeping_the_previous_generation_again_leaves_no_second_name(tmp_path: Path) -> None:
    """A write that was killed after the previous generation was kept: renaming a link to itself does nothing."""
    path = write_table(tmp_path / "skips.parquet", table_of(SKIPS, []))
    os.link(path, ledger.previous_file(path))
    ledger.append(tmp_path, "skips", table_of(SKIPS, [{"pair_id": "p", "kind": "skipped"}]))
    assert [item.name for item in tmp_path.iterdir() if ".partial" in item.name] == []


@pytest.mark.slow
def test_a_failed_write_reports_the_disk_even_if_cleaning_up_fails_too(bench: Bench, tmp_path: Path) -> None:
    def work() -> int:
        from ndec_builder.core.storage import WriteError

        try:
            write_json(tmp_path / "x.json", {})
        except WriteError:
            return 7
        return 0

    assert Watched(work, tmp_path, tmp_path.parent / "log", lambda call: 30 if call.number > 2 else 0).wait().code == 7
