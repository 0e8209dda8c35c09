"""Names that a package offers and loads on first use: `import ndec_builder` stays light. Loading without collections.

The package lists them once, as `from module import name as name` under `if TYPE_CHECKING:`: type checkers take that as
the public names, and this module reads the same list. `__all__` and `dir()` follow from it.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ndec_builder.core.errors import nearest


def lazy(
    package: str, file: str, deprecated: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose source is `file`.

    `deprecated`: old name → "module:new name"; it still works, with a DeprecationWarning, but is not listed.
    An unknown name raises AttributeError with the nearest one.
    """

    def getattr_(name: str) -> Any:
        offered = offered_by(file)
        if name == "__all__":  # for `from package import *`
            return sorted(offered)
        if name in offered:
            module, original = offered[name]
            if module == package:  # `from package import module` offers the module itself
                return importlib.import_module(f"{module}.{original}")
            return getattr(importlib.import_module(module), original)
        if deprecated and name in deprecated:
            module, new = deprecated[name].split(":")
            message = f"{package}.{name} is deprecated and will be removed in the next version; use {module}.{new}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(module), new)
        raise AttributeError(f"module {package!r} has no attribute {name!r}{nearest(name, offered)}")

    return getattr_, lambda: sorted(offered_by(file))


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Python collects no garbage while modules are loaded: new ones are none, and each collection looks through all.

    That is a sixth of the CPU time of loading torch.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@functools.cache
def offered_by(file: str) -> dict[str, tuple[str, str]]:
    """Name → (module, its name there) of the imports under `if TYPE_CHECKING:` of a source file."""
    tree = ast.parse(Path(file).read_text("utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
