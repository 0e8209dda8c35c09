"""What the fuzzing knows of a parser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.errors import NdecError

Work = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Target:
    """A parser. seeds: sound inputs · read: called with bytes and a fresh folder · allowed: how it may refuse."""

    name: str
    seeds: Callable[[], list[bytes]]
    read: Work
    allowed: tuple[type[BaseException], ...] = (NdecError,)


def of_file(name: str, read: Callable[[Path], object]) -> Work:
    """A parser of a file of that name."""

    def work(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return work
