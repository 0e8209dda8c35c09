"""Progress and messages on stderr; stdout is for results. Every forecast of a time comes from `Pace`."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from types import FrameType
from typing import Any, ClassVar, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

_Item = TypeVar("_Item")
_MEASURED = 3.0  # seconds of work that the first forecast is based on
_FEW = 12  # a forecast needs at least as many items: a handful differ too much from each other
_WARM_UP = 16  # the first items, at most 5 % of all, do not count: caches are cold, models are compiled
_RECENT = 5.0  # a rate covers at least the last seconds, and at least the last half of the time
_FIRST_LINE, _LINE = 30.0, 60.0  # seconds until the first line in a log and between two lines
stderr = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """Print one line on stderr; markup is not interpreted, because messages contain file names."""
    stderr.print(message, markup=False, soft_wrap=True)


def number_of(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 pair`, `2,000 pairs`. Give both forms with a verb, as in `pair is`, `pairs are`.

    >>> number_of(1, "pair is", "pairs are"), number_of(0, "query"), number_of(2000, "edited copy")
    ('1 pair is', '0 queries', '2,000 edited copies')
    """
    regular = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{count:,} {one if count == 1 else many or regular}"


def counted_reasons(reasons: Iterable[str], most: int = 3) -> str:
    """The `most` most frequent reasons with their numbers, and the number of the rest, so that the numbers sum up.

    >>> counted_reasons(["empty file", "too large", "empty file", "a pipe"], most=2)
    '2 × empty file; 1 × too large; 1 for other reasons'
    """
    counts = Counter(reasons)
    named = [f"{count} × {reason}" for reason, count in counts.most_common(most)]
    rest = sum(count for _, count in counts.most_common()[most:])
    return "; ".join([*named, f"{rest} for other reasons"] if rest else named)


def duration(seconds: float) -> str:
    """A readable duration: `8 s`, `3 min`, `2 h 05 min`, `3.5 days`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min"
    return f"{seconds / 86400:.1f} days"


class Pace:
    """Items per second and the time left, extrapolated from the items done so far on this machine.

    The measurement starts when the first items are done, so that loading a model does not count. `clock` gives seconds.
    effort: the work in the first n items, in any unit, where later items take less or more time than the first ones.
    """

    def __init__(
        self,
        total: float,
        done: float = 0,
        clock: Callable[[], float] = time.monotonic,
        effort: Callable[[float], float] = float,
    ) -> None:
        self.total, self.done, self._effort = total, done, effort
        self._warm = done + min(_WARM_UP, total / 20)
        self._clock = clock
        self._past: deque[tuple[float, float]] = deque()
        self._first = self._at = 0.0

    def reach(self, done: float) -> None:
        """`done` of the items are finished now; fewer than before: some are made again."""
        more, self.done = done > self.done, done
        if not self._past and (not more or done < self._warm):
            return
        now = self._at = self._clock()
        if not self._past:
            self._first = now
        spacing = max(0.1, (now - self._first) / 200)
        if not self._past or now - self._past[-1][0] >= spacing:
            self._past.append((now, done))
        since = now - max(_RECENT, (now - self._first) / 2)
        while len(self._past) > 2 and self._past[1][0] <= since:
            self._past.popleft()

    @property
    def rate(self) -> float | None:
        """Items per second; None until enough was measured."""
        if not self._past or self._at - self._first < _MEASURED:
            return None
        start, before = self._past[0]
        return (self.done - before) / (self._at - start) if self.done > before else None

    @property
    def seconds_left(self) -> float | None:
        """None until enough was measured; counts down between two steps."""
        if self.rate is None or self.total < _FEW:
            return None
        start, before = self._past[0]
        done = self._effort(self.done)
        spent, left = done - self._effort(before), self._effort(self.total) - done
        return max(0.0, left / spent * (self._at - start) - (self._clock() - self._at)) if spent else None


class RateColumn(ProgressColumn):
    """Steps per second; empty until it was measured."""

    def render(self, task: Task) -> Text:
        """`12.3/s`; without decimals from 100/s."""
        speed = task.fields["pace"].rate
        if task.finished and task.elapsed:
            speed = task.finished_speed or task.completed / task.elapsed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.1f}/s")


class TimeColumn(ProgressColumn):
    """The time left; before it is known and after the last step, the time taken so far."""

    def render(self, task: Task) -> Text:
        """`0:01:20 left` or `0:00:12`."""
        left = None if task.finished else task.fields["pace"].seconds_left
        seconds = (task.finished_time if task.finished else task.elapsed) if left is None else left
        return Text(f"{timedelta(seconds=int(seconds or 0))}{' left' if left is not None else ''}")


class Bars(Progress):
    """Progress bars whose forecasts come from `Pace`. In a pipe or log: one line after 30 s, then one a minute.

    `spinner`: a display of `waiting`, hidden while another one is shown.
    """

    shown: ClassVar[list[Bars]] = []  # displays that are open in this process, the visible one last

    def __init__(
        self,
        *columns: ProgressColumn,
        clock: Callable[[], float] = time.monotonic,
        spinner: bool = False,
        **options: Any,
    ) -> None:
        self._clock, self._next_line = clock, clock() + _FIRST_LINE
        self.spinner = spinner
        super().__init__(*columns, **options)

    def start(self) -> None:
        for hidden in [bars for bars in Bars.shown[-1:] if bars.spinner]:
            super(Bars, hidden).stop()
        Bars.shown.append(self)
        super().start()

    def stop(self) -> None:
        if not self.disable:  # rich 13 would end a bar that was never shown with an empty line
            super().stop()
        Bars.shown.remove(self)
        for hidden in [bars for bars in Bars.shown[-1:] if bars.spinner]:
            super(Bars, hidden).start()

    def add_task(self, description: str, *args: Any, **options: Any) -> TaskID:
        effort = options.pop("effort", float)
        pace = Pace(options.get("total") or 0, options.get("completed", 0), self._clock, effort)
        return super().add_task(description, *args, **options, pace=pace)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._follow(task_id)

    def update(self, task_id: TaskID, **options: Any) -> None:
        super().update(task_id, **options)
        self._follow(task_id)

    def _follow(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        pace: Pace = task.fields["pace"]
        pace.reach(task.completed)
        if not self.disable or self._clock() < self._next_line or pace.seconds_left is None:
            return
        self._next_line = self._clock() + _LINE
        say(f"{task.description}: {task.completed:,.0f} of {pace.total:,.0f}, about {duration(pace.seconds_left)} left")


def progress() -> Bars:
    """A live progress display with rate and time left (then the time taken); lines if stderr is a pipe."""
    return Bars(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    )


def track(items: Iterable[_Item], total: int, what: str) -> Iterator[_Item]:
    """Iterate with a progress bar; without a bar if `total` is 0."""
    if not total:
        yield from items
        return
    with progress() as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show `what` and the time taken, for a step that cannot count; nothing in a worker or while a bar is shown.

    Bars and other steps inside it take its place while they last.
    """
    counted = any(not bars.spinner for bars in Bars.shown)
    if counted or multiprocessing.parent_process() is not None or not stderr.is_terminal:
        yield
        return
    columns = SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), TimeColumn()
    with Bars(*columns, console=stderr, transient=True, spinner=True) as bar:
        bar.add_task(what, total=None)
        yield


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let a closed terminal or a `kill` end the work inside as Ctrl-C does, so that its servers and processes end too.

    Raises KeyboardInterrupt on SIGINT, SIGTERM and SIGHUP; does nothing outside the main thread. SIGINT is included
    even where it is ignored, as in background jobs of a shell: Python then raises nothing. An ignored SIGHUP stays
    ignored, because `nohup` asks for it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
