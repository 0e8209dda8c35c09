"""Progress and messages on stderr. stdout is kept for results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
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
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.1f}/s")


def progress() -> Progress:
    """A progress display with rate and time left (then the time taken); silent when stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=stderr,
        disable=not stderr.is_terminal,
    )


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Iterate with a progress bar."""
    with progress() as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
