"""Kinds `folder` and `imagefolder`: every image below a folder, local or remote."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from ndec_builder.core.console import say
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import find_remote, is_uri
from ndec_builder.sources.listing import Lister, SourceContents, refuse_twice, stem
from ndec_builder.sources.settings import IngestConfig

# Pictures all the same, and nobody would miss them: how many there are is said.
NOT_READ = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".svg"}
)
LEADS_OUT = "a symbolic link that leads out of the folder"
NOT_PLAIN = "no plain file: a link into nothing, a pipe, a socket or a device"


@dataclass(frozen=True)
class File:
    """An image file below a folder. name: its posix path from there · problem: why it is not opened (empty: it is)."""

    name: str
    stamp: tuple[int, int]  # bytes and time of change
    problem: str = ""


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images of a folder. Of an imagefolder the class is the group, and part of the id: `class__name`.

    Raises UsageError when the folder is missing, is a file, holds no image, or two files would get one id.
    """
    classes = config.kind == "imagefolder"
    lister, not_read = Lister(config.role, config.license), Counter[str]()
    by_folder = config.group_by == "folder" or (classes and config.group_by == "auto")
    for uri, file in files_below(config.source, workspace, NOT_READ | frozenset(SUFFIXES)):
        parent, ending = PurePosixPath(file.name).parent, PurePosixPath(file.name).suffix.lower()
        if ending in NOT_READ:
            not_read[ending] += 1
            continue
        image_id = "__".join((*parent.parts, stem(file.name))) if classes else stem(file.name)
        if file.problem:
            lister.reject(image_id, uri, file.problem)
            continue
        group = (parent.name or PurePosixPath(str(config.source)).name) if by_folder else image_id
        lister.add(image_id, uri, group=group, stamp=file.stamp)
    listing = lister.finish()
    _say_not_read(config.source, not_read, listing.images.num_rows)
    return SourceContents({config.role: listing})


def _say_not_read(source: Path | str, endings: Counter[str], images: int) -> None:
    """Raises UsageError when there is nothing else."""
    if not endings:
        return
    text = (
        f"{', '.join(f'{count:,} {ending}' for ending, count in endings.most_common())} in {source} are left out: ndec "
        "reads PNG, JPEG, WebP, GIF, BMP and TIFF; convert them to take them in"
    )
    if not images:
        raise UsageError(f"no image in {source}: {text}")
    say(text)


def files_below(
    source: Path | str, workspace: Workspace, suffixes: frozenset[str] = frozenset(SUFFIXES), what: str = "image"
) -> Iterator[tuple[str, File]]:
    """Yield (uri, file) of the files with these endings below a local folder or an fsspec URI, in no fixed order.

    Raises UsageError when the folder is missing, is a file, or holds nothing of the kind.
    """
    count = 0
    if is_uri(source):
        for uri, name, stamp in find_remote(str(source), suffixes):
            count += 1
            yield uri, File(name, stamp)
    else:
        folder = Path(source)
        check_folder(folder)
        uri_root = workspace.uri_of(folder)
        for file in walk_files(folder, suffixes):
            count += not file.problem
            yield file.name if uri_root == "." else f"{uri_root}/{file.name}", file
    if not count:
        raise UsageError(f"no {what} in {source}: nothing in it ends in {', '.join(sorted(suffixes - NOT_READ))}")


def check_folder(folder: Path) -> None:
    if not folder.exists():
        raise UsageError(f"the folder {folder} does not exist; give a folder with images")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder; put the image into a folder and give that, or give --kind")


def walk_files(folder: Path, suffixes: frozenset[str]) -> Iterator[File]:
    """Yield files with these endings, without keeping more than one folder in memory; what is no file is marked."""
    root = folder.resolve()
    waiting = [(os.fspath(folder), "")]
    while waiting:
        parent, prefix = waiting.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                name = prefix + entry.name
                image = Path(name).suffix.lower() in suffixes
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{name}/"))
                    continue
                if not image and not entry.is_symlink():
                    continue
                status = _status(entry)
                folder_linked = status is not None and stat.S_ISDIR(status.st_mode)
                if entry.is_symlink() and _leads_out(entry.path, root):
                    if image or folder_linked:
                        yield File(name, (0, 0), LEADS_OUT)
                elif image and not folder_linked:
                    if status is not None and stat.S_ISREG(status.st_mode):
                        yield File(name, (status.st_size, status.st_mtime_ns))
                    else:
                        yield File(name, (0, 0), NOT_PLAIN)  # a pipe would be waited for without end


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a link into nothing, or to itself
        return None


def _leads_out(path: str, root: Path) -> bool:
    try:
        return not Path(path).resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return False


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return (files with an image ending below `folder`, ascending by id; links out of it and what is no plain file).

    Raises UsageError when the folder is missing, is a file, holds no image, or two files would get one image id.
    """
    check_folder(folder)
    files = list(walk_files(folder, frozenset(SUFFIXES)))
    inside = sorted((folder / f.name for f in files if not f.problem), key=lambda path: (path.stem, path.as_posix()))
    if not inside:
        raise UsageError(f"no image in {folder}: nothing in it ends in {', '.join(sorted(SUFFIXES))}")
    printed = [(path.stem.encode("utf-8", "replace"), path.as_posix().encode("utf-8", "replace")) for path in inside]
    ids, uris = zip(*printed, strict=True)
    refuse_twice(pa.table({"image_id": pa.array(ids).cast(pa.string()), "uri": pa.array(uris).cast(pa.string())}))
    return inside, sorted(folder / f.name for f in files if f.problem)
