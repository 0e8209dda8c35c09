"""Forecasts are extrapolated from the first items that were done on this machine; the clock is given."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.console import Bars, Pace, RateColumn, TimeColumn, duration
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, open_plan
from ndec_builder.core.executor.progress import read_progress
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import PAUSE, counting, items_inside, step


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def worked(pace: Pace, clock: Clock, items: int, seconds_each: float) -> None:
    for _ in range(items):
        clock.now += seconds_each
        pace.reach(pace.done + 1)


def test_nothing_is_forecast_before_enough_was_measured() -> None:
    clock = Clock()
    pace = Pace(100, clock=clock)
    assert pace.rate is None and pace.seconds_left is None
    worked(pace, clock, 10, 0.5)  # the fifth of 100 items ends the start-up: 2.5 s are measured
    assert pace.seconds_left is None
    worked(pace, clock, 1, 0.5)
    assert pace.rate == pytest.approx(2.0) and pace.seconds_left == pytest.approx(89 / 2)


def test_the_first_slow_items_of_a_long_run_do_not_count() -> None:
    clock = Clock()
    pace = Pace(1049, clock=clock)
    worked(pace, clock, 2, 4.0)  # each worker loads its model
    worked(pace, clock, 40, 0.25)
    assert pace.seconds_left == pytest.approx((1049 - 42) * 0.25)


def test_loading_a_model_does_not_count_as_work() -> None:
    clock = Clock()
    pace = Pace(1000, clock=clock)
    clock.now += 60  # a model is downloaded
    worked(pace, clock, 51, 0.1)
    assert pace.seconds_left == pytest.approx(94.9)


def test_a_handful_of_items_has_no_forecast() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock)
    worked(pace, clock, 9, 2.0)
    assert pace.seconds_left is None and pace.rate is not None


def test_the_effort_of_items_decides_the_time_left() -> None:
    """The first 100 of 1,000 items take ten times as long as the others."""

    def effort(items: float) -> float:
        return 10 * min(items, 100) + max(0, items - 100)

    clock = Clock()
    pace = Pace(1000, clock=clock, effort=effort)
    worked(pace, clock, 60, 1.0)
    assert pace.seconds_left == pytest.approx(40 * 1.0 + 900 * 0.1)
    worked(pace, clock, 40, 1.0)
    worked(pace, clock, 600, 0.1)
    assert pace.seconds_left == pytest.approx(300 * 0.1) and pace.rate is not None


def test_the_time_left_counts_down_between_two_steps() -> None:
    clock = Clock()
    pace = Pace(20, clock=clock)
    worked(pace, clock, 15, 2.0)
    assert pace.seconds_left == pytest.approx(10)
    clock.now += 1.5
    assert pace.seconds_left == pytest.approx(8.5)
    clock.now += 100
    assert pace.seconds_left == 0


def test_a_slower_second_half_corrects_the_forecast() -> None:
    clock = Clock()
    pace = Pace(4000, clock=clock)
    worked(pace, clock, 1000, 0.1)
    assert pace.seconds_left == pytest.approx(300, rel=0.05)
    worked(pace, clock, 1000, 1.0)  # the machine is busy now: at the end, only the slow half is counted
    assert pace.seconds_left == pytest.approx(2000, rel=0.05)


@pytest.mark.slow
@given(each=st.floats(0.01, 5), start=st.floats(0, 100), jitter=st.lists(st.floats(0.6, 1.4), min_size=60, max_size=60))
def test_the_first_forecast_is_within_a_factor_of_two(each: float, start: float, jitter: list[float]) -> None:
    """Items whose times differ by up to 40 %, after any time of start-up."""
    clock, pace, total = Clock(), Pace(3000), 3000
    pace = Pace(total, clock=clock)
    clock.now += start
    for number in range(total):
        clock.now += each * jitter[number % len(jitter)]
        pace.reach(number + 1)
        if (left := pace.seconds_left) is not None:
            actual = each * sum(jitter[place % len(jitter)] for place in range(number + 1, total))
            assert actual / 2 <= left <= actual * 2
            return
    assert each * 1.4 * total < 9  # too short to measure


def test_bars_show_rate_and_time_left_of_the_measurement() -> None:
    clock = Clock()
    bar = Bars(clock=clock, disable=True)
    bar.add_task("x", total=1000)
    (task,) = bar.tasks
    assert RateColumn().render(task).plain == ""
    assert not TimeColumn().render(task).plain.endswith("left")
    for _ in range(31):
        clock.now += 0.5
        bar.advance(task.id)
    assert RateColumn().render(task).plain == "2.0/s"
    assert TimeColumn().render(task).plain == "0:08:04 left"  # 969 items, 0.5 s each
    bar.update(task.id, completed=1000)
    assert not TimeColumn().render(task).plain.endswith("left")


def test_a_log_gets_a_line_after_half_a_minute_and_then_one_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bar = Bars(clock=clock, disable=True)
    task = bar.add_task("geometry", total=1000)
    for _ in range(100):
        clock.now += 1
        bar.advance(task)
    assert capsys.readouterr().err.splitlines() == [
        "geometry: 30 of 1,000, about 16 min left",  # 970 s
        "geometry: 90 of 1,000, about 15 min left",
    ]


def test_durations_are_readable() -> None:
    assert [duration(seconds) for seconds in (0.2, 89, 100, 7500, 3.5 * 86400)] == [
        "1 s", "89 s", "2 min", "2 h 05 min", "3.5 days",
    ]  # fmt: skip


def test_a_running_shard_tells_how_far_it_is(tmp_path: Path) -> None:
    clock, shard = Clock(), Shard(0, 0, 10)
    with counting(tmp_path, shard, clock):
        step()
        assert items_inside(tmp_path, shard) == 0  # nothing is written more often than every PAUSE
        clock.now += PAUSE
        step(3)
        assert items_inside(tmp_path, shard) == 4
    assert items_inside(tmp_path, shard) == 0 and not list(tmp_path.iterdir())


def test_a_reader_never_sees_a_count_of_zero_while_a_new_one_is_written(tmp_path: Path) -> None:
    clock, shard, seen, stop = Clock(), Shard(0, 0, 10**9), [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(items_inside(tmp_path, shard))

    with counting(tmp_path, shard, clock):
        clock.now += PAUSE
        step()
        reader = threading.Thread(target=read)
        reader.start()
        while len(seen) < 3000:
            clock.now += PAUSE
            step(0.5)
        stop.set()
        reader.join()
    assert seen == sorted(seen) and seen[0] >= 1


def test_the_bar_moves_inside_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work waits until the bar shows its first items; a bar that moved only per shard would let it time out."""
    seen = threading.Event()

    def update(self: Bars, task: int, **options: int) -> None:
        if 0 < options["completed"] < 10:
            seen.set()

    monkeypatch.setattr(Bars, "update", update)
    plan = Plan(10, 10, "mark")
    folder = open_plan(tmp_path, plan)

    def work(shard: Shard) -> Outcome:
        (folder / f"{shard.name}.items").write_text("4", "ascii")
        assert seen.wait(60)
        progress = read_progress(tmp_path)
        assert progress is not None and progress.shards_done == 0 and progress.items_done == 4
        (folder / "out").write_text("x")
        return Outcome(("out",), {})

    run_shards(folder, plan, work, Engine(here=True))
    assert read_progress(tmp_path).items_done == 10  # type: ignore[union-attr]
