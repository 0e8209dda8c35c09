"""Finds the images that the names in a file of pairs mean, when both roles may have images of the same name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ndec_builder.core.addresses import parse_address
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

NOT_SEARCHED = -1  # row of an image that its role has, but the search leaves out
_SEVERAL = "a name that several images of a role have; give ids or full paths"
_IN_BOTH_ROLES = "a path of no image, with a file name that both roles have; give ids or the paths as ingested"


class NamedImage(NamedTuple):
    """An image of a role: its absolute path or uri, and its row in the search or NOT_SEARCHED."""

    image_id: str
    address: str
    row: int


@dataclass(frozen=True)
class NameMeaning:
    """What a name means: the row of the pool and of the gallery image it may be, or NOT_SEARCHED; None: not this role.

    shared: both roles have this same file · reason: why the name cannot be used, if so; then both rows are None.
    """

    pool: int | None = None
    gallery: int | None = None
    shared: bool = False
    reason: str = ""


class NameLookup:
    """Meanings of names in two roles, from all images of both (pool, gallery).

    A name means the images with that id; else with that uri or path; else those whose path ends with it, also without
    the ending; else, by its last part alone, those with that file name or id. The first of these steps that finds an
    image in either role counts, so that a path never means an image of the other role with the same file name.
    Relative paths start here or in the workspace `root`.
    """

    def __init__(self, root: Path, roles: Iterable[Iterable[NamedImage]], names: Collection[str]) -> None:
        self._root = root
        wanted = {name for text in names for name in (text, PurePosixPath(text).name, PurePosixPath(text).stem)}
        self._roles = [_RoleNames(images, wanted) for images in roles]

    def find(self, name: str) -> NameMeaning:
        """The meaning of one of the names that the lookup was made for."""
        is_path = len(PurePosixPath(name).parts) > 1
        places = [name] if "://" in name else [name, _absolute(name), _absolute(self._root / name)]
        steps = (_RoleNames.by_id, _RoleNames.by_path, _RoleNames.by_end, _RoleNames.by_file, _RoleNames.by_stem)
        for step in steps:
            texts = places if step is _RoleNames.by_path else [name]
            pool, gallery = found = [
                next((images for text in texts if (images := step(role, text))), []) for role in self._roles
            ]
            if not pool and not gallery:
                continue
            if max(map(len, found)) > 1:
                return NameMeaning(reason=_SEVERAL)
            if pool and gallery and is_path and step in (_RoleNames.by_file, _RoleNames.by_stem):
                return NameMeaning(reason=_IN_BOTH_ROLES)
            rows = [images[0].row if images else None for images in found]
            shared = bool(pool and gallery) and pool[0].address == gallery[0].address
            return NameMeaning(rows[0], rows[1], shared)
        return NameMeaning()


class _RoleNames:
    """The images of one role whose id or file name is asked for. Each method returns the images that a name means."""

    def __init__(self, images: Iterable[NamedImage], wanted: Collection[str]) -> None:
        self._ids: dict[str, NamedImage] = {}
        self._paths: dict[str, NamedImage] = {}
        self._files: dict[str, list[NamedImage]] = defaultdict(list)
        self._stems: dict[str, list[NamedImage]] = defaultdict(list)
        for image in images:
            if image.image_id in wanted:
                self._ids[image.image_id] = image
            name = image.address.rpartition("/")[2]
            stem = name.rpartition(".")[0] or name
            if name in wanted or stem in wanted:
                self._paths[image.address] = image
                if parse_address(image.address) is None:  # an archive is no name of the images inside
                    self._files[name].append(image)
                    self._stems[stem].append(image)

    def by_id(self, name: str) -> list[NamedImage]:
        return [self._ids[name]] if name in self._ids else []

    def by_path(self, name: str) -> list[NamedImage]:
        return [self._paths[name]] if name in self._paths else []

    def by_end(self, name: str) -> list[NamedImage]:
        """Images whose path ends with a name of several parts; without the ending if none does with it."""
        path = PurePosixPath(name)
        folders = path.parts[:-1]
        for named in (self._files.get(path.name, ()), self._stems.get(path.name, ()), self._stems.get(path.stem, ())):
            found = [image for image in named if PurePosixPath(image.address).parts[-1 - len(folders) : -1] == folders]
            if folders and found:
                return found
        return []

    def by_file(self, name: str) -> list[NamedImage]:
        return self._files.get(PurePosixPath(name).name, [])

    def by_stem(self, name: str) -> list[NamedImage]:
        path = PurePosixPath(name)
        return self.by_id(path.name) or self.by_id(path.stem)


def named_images(workspace: Workspace, table: Path, ids: Iterable[str]) -> Iterator[NamedImage]:
    """All images of an images table; `ids`: those that are searched, in the order of their rows."""
    rows = {image_id: row for row, image_id in enumerate(ids)}
    columns = read_table(table, ["image_id", "uri"])
    for image_id, uri in zip(*(columns[name].to_pylist() for name in ("image_id", "uri")), strict=True):
        address = workspace.resolve(uri)
        address = address if "://" in address or address.startswith("/") else _absolute(address)
        yield NamedImage(image_id, address, rows.get(image_id, NOT_SEARCHED))


def _absolute(path: str | Path) -> str:
    return os.path.normpath(Path(path).absolute())
