"""Progress and messages on stderr. stdout is kept for results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text

Item = TypeVar("Item")
stderr = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line on stderr; markup is not interpreted, since messages carry file names."""
    stderr.print(message, markup=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Steps per second; empty until there are some."""

    def render(self, task: Task) -> Text:
        """`12.3/s`; from a hundred on without decimals."""
        speed = task.finished_speed or task.speed
        if speed is None and task.finished and task.elapsed:
            speed = task.completed / task.elapsed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.1f}/s")


class TimeColumn(ProgressColumn):
    """The time left; until something is done (a shard is one step), and when all is, the time it took so far."""

    def render(self, task: Task) -> Text:
        """`0:01:20 left` or `0:00:12`."""
        left = None if task.finished else task.time_remaining
        seconds = (task.finished_time if task.finished else task.elapsed) if left is None else left
        return Text(f"{timedelta(seconds=int(seconds or 0))}{' left' if left is not None else ''}")


def progress() -> Progress:
    """A progress display that lives, with rate and time left (then the time taken); silent where stderr is a pipe."""
    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    )


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Iterate with a progress bar; without one where there is nothing to do."""
    if not total:
        yield from items
        return
    with progress() as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
