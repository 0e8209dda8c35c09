"""Hide Pillow's warnings while a picture is read: palettes and broken EXIF do not change the pixels."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_lock = threading.Lock()
_readers = 0
_filter: tuple[object, ...] | None = None


@contextmanager
def without_pillow_warnings() -> Iterator[None]:
    """Hide the warnings that Pillow's modules raise, until the last thread has left.

    `warnings.catch_warnings` restores the filters of the process as it found them. With several threads in it, that
    leaves filters of one thread behind, or takes away those of another.
    """
    global _readers, _filter
    with _lock:
        _readers += 1
        if _readers == 1:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            _filter = warnings.filters[0]
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                with suppress(ValueError):  # somebody else has restored older filters
                    warnings.filters.remove(_filter)  # type: ignore[attr-defined]
