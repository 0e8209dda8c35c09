"""Names that `ndec annotate forget` puts in place of an annotator's name."""

from __future__ import annotations

import re
import secrets


def new_pseudonym() -> str:
    """A random name: a hash of the real one could be guessed."""
    return f"person-{secrets.token_hex(4)}"


def is_pseudonym(name: str) -> bool:
    """Whether `new_pseudonym` makes such names: labels that are pulled later are stored without a login.

    >>> is_pseudonym("person-0f9a12b3"), is_pseudonym("person-3")
    (True, False)
    """
    return re.fullmatch(r"person-[0-9a-f]{8}", name) is not None
