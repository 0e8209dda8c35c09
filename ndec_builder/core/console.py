"""Progress and messages on stderr; stdout is for results."""

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

_Item = TypeVar("_Item")
stderr = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """Print one line on stderr; markup is not interpreted, because messages contain file names."""
    stderr.print(message, markup=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Steps per second; empty until the first step."""

    def render(self, task: Task) -> Text:
        """`12.3/s`; without decimals from 100/s."""
        speed = task.finished_speed or task.speed
        if speed is None and task.finished and task.elapsed:
            speed = task.completed / task.elapsed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.1f}/s")


class TimeColumn(ProgressColumn):
    """The time left; before the first step and after the last one, the time taken so far."""

    def render(self, task: Task) -> Text:
        """`0:01:20 left` or `0:00:12`."""
        left = None if task.finished else task.time_remaining
        seconds = (task.finished_time if task.finished else task.elapsed) if left is None else left
        return Text(f"{timedelta(seconds=int(seconds or 0))}{' left' if left is not None else ''}")


def progress() -> Progress:
    """A live progress display with rate and time left (then the time taken); silent if stderr is a pipe."""
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
