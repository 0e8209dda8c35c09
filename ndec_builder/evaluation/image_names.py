"""Finds the image that a list of another tool names: tools write paths and endings of files in place of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import PurePosixPath

from ndec_builder.core.errors import NdecError
from ndec_builder.core.pictures.formats import without_picture_ending

LOOSE = "image named with another folder or ending"  # what is counted of a list


class ImageNames:
    """The rows of one side of a dataset by the names in one list.

    ids: in row order, each once. A name is an id, or it has folders before it, or another ending of a picture than it.

    >>> names = ImageNames(["a", "b", "x/1.png", "y/1.png"])
    >>> [names.row(name) for name in ("a", "photos/b.jpg", "/data/y/1.png", "x/1", "1.png", "v1.2")]
    [0, 1, 3, 2, None, None]
    >>> names.is_id("a"), names.is_id("photos/b.jpg")
    (True, False)
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._rows = {image_id: row for row, image_id in enumerate(ids)}
        self._found: dict[str, int | None] = {}
        self._names: dict[int, str] = {}  # the name that the list gives an image

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def is_id(self, name: str) -> bool:
        """Whether a name is an id as it stands, spaces around it left out."""
        return name in self._rows or name.strip() in self._rows

    def row(self, name: str) -> int | None:
        """The row of the image; None if no image, or more than one, can be meant. Raises NdecError if the list gave the
        same image another name before: these can be two pictures, of which the dataset has one.
        """
        if name in self._found:
            return self._found[name]
        row = self._found[name] = self._search(name)
        if row is not None:
            text = name if name in self._rows else name.strip()
            if (before := self._names.setdefault(row, text)) != text:
                raise NdecError(
                    f"the names {before!r} and {text!r} both stand for one image of the dataset; give each image one "
                    "name, best its id, and leave out pictures that are not in the dataset"
                )
        return row

    def _search(self, name: str) -> int | None:
        for text in (name, name.strip()):
            if (row := self._rows.get(text)) is not None:
                return row
        parts = PurePosixPath(name.strip().replace("\\", "/")).parts
        for start in range(len(parts)):  # the longest path first: `x/1` and `y/1` may be two ids
            text = "/".join(parts[start:])
            stem = without_picture_ending(text)
            for row in (self._rows.get(text), self._rows.get(stem), self._stems.get(stem)):
                if row is not None:
                    return row
        return None

    @cached_property
    def _stems(self) -> dict[str, int | None]:
        """Ids without the ending of a picture → row; None where several ids are like that."""
        found: dict[str, int | None] = {}
        for image_id, row in self._rows.items():
            stem = without_picture_ending(image_id)
            found[stem] = None if stem in found else row
        return found
