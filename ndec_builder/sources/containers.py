"""Local and remote (fsspec) containers: find them, list remote folders, open them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ndec_builder.core.access.hosts import parse_allowed
from ndec_builder.core.access.references import References
from ndec_builder.core.access.remote import retried
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.listing import Stamp, name_all, without_ending
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread

_Value = TypeVar("_Value")
# what fsspec's file systems call size, time of change and version: local, http, s3, gs, Azure
_VERSIONS = ("size", "mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "md5Hash", "created")
_PART = re.compile(r"(.*?)(\d{1,6})-of-(\d{1,5})(?!\d)")  # of `datasets`, TensorFlow and many others
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


def is_uri(source: Path | str) -> bool:
    return "://" in str(source)


def references_of(config: IngestConfig) -> References:
    """What the tables of a source may refer to: files in it or in `follow_links`, and the hosts of `allow`."""
    local = [Path(config.source)] if not is_uri(config.source) and Path(config.source).is_dir() else []
    roots = (*local, *([config.follow_links] if config.follow_links is not None else []))
    return References(roots, tuple(parse_allowed(entry) for entry in config.allow))


def find_remote(source: str) -> Iterator[tuple[str, str, Stamp]]:
    """Yield (uri, name below the source, stamp) of all files, ascending. Raises UsageError, NdecError."""
    filesystem, root = open_filesystem(source)
    files: dict[str, dict[str, Any]] = scanned(lambda: filesystem.find(root, detail=True), source)
    for path in sorted(files):
        name = path.removeprefix(root.rstrip("/")).lstrip("/")
        yield filesystem.unstrip_protocol(path), name, _remote_stamp(files[path])


def file_stamp(name: str) -> Stamp:
    """The stamp of a local file or of one on an fsspec file system. Raises OSError."""
    if not is_uri(name):
        status = Path(name).stat()
        return status.st_size, status.st_mtime_ns
    filesystem, path = open_filesystem(name)
    return _remote_stamp(filesystem.info(path))


def _remote_stamp(info: dict[str, Any]) -> Stamp:
    return tuple(str(info[key]) for key in _VERSIONS if info.get(key) is not None)


def open_filesystem(source: str) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path on it. Raises UsageError for a protocol that is not installed."""
    import fsspec

    try:
        filesystem, path = fsspec.url_to_fs(source)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{source} cannot be reached: {error}; install the fsspec driver of its protocol") from None
    return filesystem, str(path)


def containers(
    source: Path | str, suffix: str, workspace: Workspace, what: str, unread: Unread | None = None
) -> list[tuple[str, str]]:
    """Return (uri as stored, name that opens it) of the archives that a source names, ascending.

    The source is a file, a folder (its files with that ending, at any depth), or a pattern with `*`, `?`, `{a,b}` or
    `{000..012}`; local or any fsspec URI. `unread` counts the other files of a local folder.
    Raises UsageError naming every file of a brace pattern that does not exist.
    """
    names = expand(str(source))
    found: list[str] = []
    missing: list[str] = []
    for name in names:
        matches = _matches(name, suffix, unread)
        found += matches
        if not matches:
            missing.append(name)
    if missing and len(names) > 1:
        raise UsageError(f"missing: {len(missing)} of {len(names)} files, {', '.join(missing)}; {what}")
    if not found:
        raise UsageError(f"no {suffix} file at {source}; {what}")
    return [(name if is_uri(name) else workspace.uri_of(Path(name)), name) for name in sorted(set(found))]


def missing_parts(source: Path | str, names: Sequence[str]) -> list[str]:
    """Phrases about files that the names of their siblings count: of `train-00000-of-00003` there are three.

    names: of the files that `containers` found. A source that is one file, or names each file in braces, is complete.
    """
    if len(expand(str(source))) > 1 or list(names) == [str(source)]:
        return []
    sets: dict[tuple[str, str], set[int]] = {}
    for name in names:
        folder, slash, file = name.rpartition("/")
        if part := _PART.match(file):
            sets.setdefault((f"{folder}{slash}{part[1]}", part[3]), set()).add(int(part[2]))
    phrases = []
    for (start, total), numbers in sorted(sets.items()):
        first = int(max(numbers) == int(total))  # some count from 1
        width, lost = len(total), sorted(set(range(first, first + int(total))) - numbers)
        if lost:
            files, names = f"of {int(total):,} files {start}…-of-{total}", [f"number {n:0{width}}" for n in lost]
            phrases.append(name_all(names, f"{files} is missing", f"{files} are missing"))
    return phrases


def labels(names: Sequence[str]) -> list[str]:
    """A name for each container that tells it from the others: its path below their common folder, without ending."""
    paths = [PurePosixPath(name.replace("://", "/")) for name in names]
    common = os.path.commonpath([path.parent for path in paths]) if len({p.is_absolute() for p in paths}) == 1 else ""
    return [without_ending(str(path.relative_to(common) if common else path)) for path in paths]


def expand(pattern: str) -> list[str]:
    """Expand `{a,b}` and `{000..012}`, also several of them."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    first, last, words = match.groups()
    if words is not None:
        middle = words.split(",")
    else:
        middle = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [done for text in middle for done in expand(pattern[: match.start()] + text + pattern[match.end() :])]


def _matches(name: str, suffix: str, unread: Unread | None) -> list[str]:
    if is_uri(name):
        return scanned(lambda: _matches_remote(name, suffix), name)
    local = Path(name)
    if local.is_dir():
        files = [file for file in local.rglob("*") if file.is_file()]
        for file in files:
            if unread is not None and not file.name.endswith(suffix):
                unread.add(file.name)
        return [str(file) for file in files if file.name.endswith(suffix)]
    if local.is_file():
        return [name]
    if local.parent.is_dir() and any(character in local.name for character in "*?["):
        return [str(file) for file in local.parent.iterdir() if fnmatch.fnmatch(file.name, local.name)]
    return []


def _matches_remote(name: str, suffix: str) -> list[str]:
    filesystem, path = open_filesystem(name)
    if any(character in path for character in "*?["):
        paths = filesystem.glob(path)
    elif filesystem.isdir(path):
        paths = [p for p in filesystem.find(path) if p.endswith(suffix)]
    else:
        paths = [path] if filesystem.exists(path) else []
    return [filesystem.unstrip_protocol(p) for p in paths]


def scanned(read: Callable[[], _Value], name: str) -> _Value:
    """Return `read()`, retried with growing waits when `name` is remote. Raises NdecError when it fails."""
    try:
        return retried(read, name) if is_uri(name) else read()
    except OSError as error:
        raise NdecError(
            f"{name} cannot be read ({error.strerror or error}); check that it is complete, that the address is right, "
            "and that you have permission"
        ) from None


def open_container(name: str) -> Any:
    """A seekable binary file, local or remote. Raises OSError; UsageError for a protocol that is not installed."""
    if not is_uri(name):
        return Path(name).open("rb")
    filesystem, path = open_filesystem(name)
    return filesystem.open(path, "rb", block_size=1 << 18)  # headers are far apart: small blocks waste least
