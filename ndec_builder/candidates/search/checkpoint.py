"""How far a search of hours is, in one file beside the result: a run that was killed goes on from there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.console import say
from ndec_builder.core.storage import atomic_path

EVERY = 120.0  # seconds between two states: writing one takes less than one


class Checkpoint:
    """Arrays by name, of one search only: `fingerprint` stands for everything that the search depends on."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint, self.last = path, fingerprint, time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        """The last state of this search, if there is one; that of another search, or a damaged one, counts as none."""
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                if str(stored["fingerprint"]) == self.fingerprint:
                    return {name: stored[name] for name in stored.files}
        except Exception:  # a damaged archive raises almost anything
            return None
        return None

    def due(self) -> bool:
        return time.monotonic() - self.last >= EVERY

    def save(self, **arrays: Any) -> None:
        """Write arrays and numbers; whole or not at all."""
        values: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, fingerprint=np.array(self.fingerprint), **values)
        self.last = time.monotonic()

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


def say_resumed(done: int, total: int) -> None:
    say(f"going on with a search that was stopped: {done} of {total} queries of this round are done already")
