"""A version of a dataset is written once: build it in a temporary folder, compare, then move it into place."""

from __future__ import annotations

import contextlib
import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, sync_folder
from ndec_builder.manifests.diff import Changes, next_version, version_key
from ndec_builder.manifests.diff import run as compare
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import DiffConfig
from ndec_builder.manifests.validation.file_checks import LOGS, check_listed_files

_SHOWN = 5  # changes named in the message of a refusal


@contextlib.contextmanager
def written_once(directory: Path) -> Iterator[Path]:
    """Yield an empty folder next to `directory` to build a dataset in; then make it `directory` in one rename.

    If `directory` already holds a dataset with the same content, it is kept; its damaged files are replaced. Raises
    NdecError if the content differs. An interrupted export leaves `directory` as it was.
    """
    building = directory.with_name(f".{directory.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # of an interrupted export
    try:
        yield building
        _publish(building, directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _publish(building: Path, directory: Path) -> None:
    if (directory / "manifest.json").is_file():
        _keep(building, directory)
        return
    if directory.exists():  # an export by an older ndec was interrupted here
        others = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
        left = [name for name in others if not (building / name).is_file()]
        if left:
            raise NdecError(
                f"{directory} has no manifest.json, so it is no dataset, but it holds {len(left)} other files "
                f"({', '.join(left[:3])}); move the folder away, then export again"
            )
        shutil.rmtree(directory)
    building.rename(directory)
    sync_folder(directory.parent)


def _keep(building: Path, directory: Path) -> None:
    """Keep the dataset that exists if its content is the same, else raise."""
    changes = compare(DiffConfig(directory, building))
    if changes.differ:
        raise NdecError(_refusal(changes, directory))
    if (building / "manifest.json").read_bytes() == (directory / "manifest.json").read_bytes():
        names = [path.relative_to(building) for path in building.rglob("*") if path.is_file() and path.name not in LOGS]
        for name in (damaged := [name for name in names if not _same(building / name, directory / name)]):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).replace(directory / name)
        if damaged:
            what = number_of(len(damaged), "damaged or missing file was", "damaged or missing files were")
            say(f"{directory}: {what} written again, {damaged[0]} first")
            return
    elif findings := list(check_listed_files(changes.before)):
        raise NdecError(f"{directory} is damaged ({findings[0].what}); delete the folder and export again")
    say(f"{directory} already has exactly this content; nothing was written")


def version_note(directory: Path) -> str | None:
    """What to say if the dataset's version is too low for what changed since the highest earlier version of its name.

    None if it is high enough, or if the folder has no earlier version.
    """
    info = open_manifest(directory).info
    earlier = [path for path in directory.parent.glob(f"{info['name']}-*") if _precedes(path, info)]
    if not earlier:
        return None
    before = max(earlier, key=lambda path: version_key(read_json(path / "manifest.json")["version"]) or ())
    try:
        changes = compare(DiffConfig(before, directory))
    except NdecError as error:
        return f"note: whether the version was raised enough since {before.name} is unknown: {error}"
    if changes.adequate:
        return None
    old = changes.before.info["version"]
    return (
        f"note: version {info['version']} is too low for what changed since {old}: {_shown(changes)}. The change is "
        f"{changes.needed}: before anybody uses {directory}, delete it and export again with --version "
        f"{next_version(old, changes.needed)} (`ndec diff {before} {directory}` lists the changes)"
    )


def _precedes(path: Path, info: dict[str, Any]) -> bool:
    """Whether the folder has a dataset of the same name with a lower version."""
    if not (path / "manifest.json").is_file():
        return False
    found = read_json(path / "manifest.json")
    if not isinstance(found, dict) or found.get("name") != info["name"]:
        return False
    old, new = version_key(found.get("version")), version_key(info["version"])
    return old is not None and new is not None and old < new


def _shown(changes: Changes) -> str:
    lines = changes.as_text().splitlines()[1:-1]
    return "; ".join(line.strip() for line in lines[:_SHOWN]) + (" …" if len(lines) > _SHOWN else "")


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _refusal(changes: Changes, directory: Path) -> str:
    info = changes.before.info
    return (
        f"{directory} already exists with different content, and a version is written once: someone may be using it. "
        f"What differs: {_shown(changes)}. The change is {changes.needed}: export again with --version "
        f"{next_version(info['version'], changes.needed)} (or set it in [export] of ndec.toml; `ndec diff` compares "
        "two versions), or with another --name"
    )
