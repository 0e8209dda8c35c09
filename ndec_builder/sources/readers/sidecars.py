"""Json and txt files that describe the images of an archive: which of them belongs to which image.

    x/0001.jpg + x/0001.jpg.json         the name of the image
    x/0001.jpg + x/0001.json             the same name without the last ending
    x/0001.left.jpg + x/0001.json        the same WebDataset key: the path up to the first dot of the file name

Where they are in the archive does not matter. Of several sidecars the more exact one counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ndec_builder.sources.listing import name_all, without_ending

SIDECARS = {".json", ".txt"}


class Sidecars:
    """The sidecars of one archive. Usage: `add` each, `join` them to the images, then `of` an image."""

    def __init__(self) -> None:
        self._named: dict[str, dict[str, Any]] = defaultdict(dict)  # name without ending → what its sidecars say
        self._files: dict[str, list[str]] = defaultdict(list)
        self._broken: list[str] = []
        self._by_key: dict[str, dict[str, Any]] = defaultdict(dict)
        self._orphans: list[str] = []

    def add(self, name: str, data: bytes) -> None:
        """Read one sidecar. A broken one is no reason to lose the image; `notes` names it."""
        text, base = data.decode("utf-8-sig", "replace"), without_ending(plain_path(name))
        self._files[base].append(name)
        if PurePosixPath(name).suffix.lower() == ".txt":
            self._named[base] |= {"title": text.strip()} if text.strip() else {}
            return
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            self._named[base] |= {name: entry for name, entry in value.items() if _is_small(name, entry)}
        else:
            self._broken.append(name)

    def join(self, images: Sequence[str]) -> None:
        """Find the images of each sidecar.

        A sidecar whose name is that of an image describes this image only. One that is named for its key describes all
        images of the key; so does one with a longer name (`0001.meta.json`), unless images of the key have sidecars
        named like themselves; then it belongs to an image that is missing.
        """
        full = {plain_path(image) for image in images}
        exact = {without_ending(image) for image in full}
        keys = {_key(base) for base in exact}
        own_names = {_key(base) for base in exact | full if base in self._files and base != _key(base)}
        for base, files in self._files.items():
            key = _key(base)
            if base in full or (base in exact and base != key):
                continue
            if key in keys and (base == key or key not in own_names):
                self._by_key[key] |= self._named[base]
            else:
                self._orphans += files

    def of(self, image: str) -> Mapping[str, Any]:
        """What the sidecars say of an image."""
        base = without_ending(plain_path(image))
        full = self._named.get(plain_path(image), {})
        return {**self._by_key.get(_key(base), {}), **self._named.get(base, {}), **full}

    def notes(self, archive: str, images: Sequence[str]) -> list[str]:
        """What is lost: sidecars without an image, images without a sidecar, broken sidecars."""
        notes = []
        if self._orphans:
            found = name_all(
                self._orphans, "json or txt member belongs to no image", "json or txt members belong to no image"
            )
            notes.append(f"{archive}: {found}")
        bare = [image for image in images if not self._describes(image)] if self._files else []
        if (bare and len(bare) < len(images)) or (bare and self._orphans):
            notes.append(
                f"{archive}: {name_all(bare, 'image has no json or txt member', 'images have no json or txt member')}"
            )
        if self._broken:
            found = name_all(
                self._broken,
                "json member is no JSON object and is ignored",
                "json members are no JSON objects and are ignored",
            )
            notes.append(f"{archive}: {found}")
        return notes

    def _describes(self, image: str) -> bool:
        base = without_ending(plain_path(image))
        return base in self._files or plain_path(image) in self._files or _key(base) in self._by_key


def _is_small(name: str, value: object) -> bool:
    """Whether a value can be a column or an id. Shards may hold thousands of large lists of something else."""
    return name == "exif" or (isinstance(value, (str, int, float)) and len(str(value)) < 100_000)


def plain_path(name: str) -> str:
    """A member's name as a plain path: `./x.jpg` and `x.jpg` are one file."""
    return str(PurePosixPath(name))


def _key(base: str) -> str:
    """WebDataset's key of a name: its path up to the first dot of the file name (webdataset 1.0.2)."""
    folder, slash, file = base.rpartition("/")
    return f"{folder}{slash}{file.split('.', 1)[0]}" if file[:1] != "." else base
