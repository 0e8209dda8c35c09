"""Errors that reach a person: one paragraph that says what was wrong, the value seen, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NdecError(Exception):
    """A failure that the user can fix. The command line prints only its text, without a traceback."""

    exit_code = 1


class UsageError(NdecError):
    """A command, an option or a setting is not valid."""

    exit_code = 2


class GapsError(NdecError):
    """The work is finished, but with more gaps than the settings allow (rejected images, failed shards)."""

    exit_code = 3


class LowMemoryError(NdecError):
    """There is not enough memory for a piece of work. It may succeed later, or on another machine."""


def nearest(name: str, choices: Iterable[str], otherwise: str = "") -> str:
    """Return `; did you mean 'x'?` for the closest of the choices, or `otherwise` when none is close.

    Give "." if another sentence follows.
    """
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else otherwise
