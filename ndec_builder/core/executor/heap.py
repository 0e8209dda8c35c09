"""Gives memory that a long-lived process has freed back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def trim_heap() -> None:
    """Return the free pages inside the C library's heap, in about a millisecond; nothing where it cannot do that.

    A worker that takes and frees blocks of some MB for hours would grow: small blocks keep the gaps between them.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    function = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return function if function is not None else lambda pad: None
