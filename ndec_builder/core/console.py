"""Progress and messages on stderr. stdout is kept for results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
stderr = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line on stderr; markup is not interpreted, since messages carry file names."""
    stderr.print(message, markup=False, soft_wrap=True)


def progress() -> Progress:
    """A progress display with rate of completion and time left; silent when stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
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
