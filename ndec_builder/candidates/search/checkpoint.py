"""Saves the progress of a long search in one file, so that a killed run continues from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.console import say
from ndec_builder.core.storage import atomic_path

EVERY = 120.0  # seconds between two saves; a save takes less than one second


class Checkpoint:
    """Named arrays of one search; `fingerprint` covers everything that the search depends on."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint, self.last = path, fingerprint, time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        """The last saved state of this search; None if there is none, or it is damaged or of a different search."""
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                if str(stored["fingerprint"]) == self.fingerprint:
                    return {name: stored[name] for name in stored.files}
        except Exception:  # a damaged archive can raise anything
            return None
        return None

    def due(self) -> bool:
        return time.monotonic() - self.last >= EVERY

    def save(self, **arrays: Any) -> None:
        """Write arrays and numbers atomically."""
        values: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, fingerprint=np.array(self.fingerprint), **values)
        self.last = time.monotonic()


def report_resumed(done: int, total: int) -> None:
    say(f"continuing a stopped search: {done} of {total} queries of this round are done")
