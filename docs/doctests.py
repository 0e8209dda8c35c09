"""Griffe extension: turns the examples (`>>>`) of a docstring into code blocks; Markdown would read quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"((?:^|\n)>>> .*(?:\n.+)*)")


class Doctests(Extension):
    """Puts a fence around every example of every object."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute that it reads."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = EXAMPLE.sub(r"\n\n```pycon\1\n```\n", obj.docstring.value)
