"""Kinds `folder` and `imagefolder`: every image below a folder, local or remote."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndec_builder.core.access.references import LEADS_OUT, NOT_PLAIN
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import find_remote, is_uri
from ndec_builder.sources.image_ids import choose_ids
from ndec_builder.sources.listing import Lister, SourceContents, Stamp, stem, without_ending
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread, is_companion


@dataclass(frozen=True)
class File:
    """A file below a folder. name: its posix path from there · problem: why it is not opened (empty: it is) ·
    stamp: of a remote file."""

    name: str
    problem: str = ""
    stamp: Stamp = ()


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images of a folder. The classes of an imagefolder are part of the ids: `class__name`.

    Raises UsageError when the folder is missing, is a file, or holds no image that can be used.
    """
    classes = config.kind == "imagefolder"
    lister, unread = Lister(config.role, config.license), Unread()
    problems: Counter[str] = Counter()
    good = 0
    for uri, file in files_below(config.source, workspace, unread, follow=config.follow_links):
        parent = PurePosixPath(file.name).parent
        short = "__".join((*parent.parts, stem(file.name))) if classes and not config.id else stem(file.name)
        image_id, longer = choose_ids(config.id, short, (without_ending(file.name), file.name))
        if file.problem:
            problems[file.problem] += 1
            lister.reject(image_id, uri, file.problem, longer=longer)
            continue
        good += 1
        lister.add(image_id, uri, longer=longer, place=file.name, stamp=file.stamp)
    if not good:
        raise UsageError(_no_image(config.source, problems, unread))
    return SourceContents({config.role: lister.finish()}, notes=(unread.note(),))


def _no_image(source: Path | str, problems: Counter[str], unread: Unread) -> str:
    found = [f"{count} × {problem}" for problem, count in problems.most_common()]
    found += [unread.note()] if unread.note() else []
    return f"no image in {source}: {'. '.join(found) or 'it is empty'}"


def files_below(
    source: Path | str,
    workspace: Workspace,
    unread: Unread,
    suffixes: frozenset[str] = frozenset(SUFFIXES),
    follow: Path | None = None,
) -> Iterator[tuple[str, File]]:
    """Yield (uri, file) of the files with these endings below a local folder or an fsspec URI, in no fixed order.

    Counts all other files in `unread`. Raises UsageError when the folder is missing or is a file.
    """
    if is_uri(source):
        for uri, name, stamp in find_remote(str(source)):
            if is_companion(name):
                unread.add_companion(name)
            elif PurePosixPath(name).suffix.lower() in suffixes:
                yield uri, File(name, stamp=stamp)
            else:
                unread.add(name)
        return
    folder = Path(source)
    check_folder(folder)
    uri_root = workspace.uri_of(folder)
    for file in walk_files(folder, suffixes, unread, follow):
        yield file.name if uri_root == "." else f"{uri_root}/{file.name}", file


def check_folder(folder: Path) -> None:
    if not folder.exists():
        raise UsageError(f"the folder {folder} does not exist; give a folder with images")
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is a file; a folder of images is needed. Give the folder, or another --kind of `ndec ingest`"
        )


def walk_files(
    folder: Path, suffixes: frozenset[str], unread: Unread | None = None, follow: Path | None = None
) -> Iterator[File]:
    """Yield the files with these endings, with one folder in memory at a time; other kinds of entries are marked.

    `unread` counts all other files. Links that lead out of `folder` are followed only into the folder `follow`.
    """
    unread = unread or Unread()
    roots = [folder.resolve()] + ([follow.resolve()] if follow is not None else [])
    followed = {roots[0]}  # folders that links led to: a loop of links ends
    waiting = [(os.fspath(folder), "")]
    while waiting:
        parent, prefix = waiting.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{name}/"))
                    continue
                image = Path(name).suffix.lower() in suffixes
                status = _status(entry)
                is_folder = status is not None and stat.S_ISDIR(status.st_mode)
                target = _target(entry.path) if entry.is_symlink() else None
                if target is not None and not any(target.is_relative_to(root) for root in roots):
                    if image or is_folder:
                        yield File(name, LEADS_OUT)
                elif is_folder:  # a link; one that stays inside the folder shows files that are visited anyway
                    if target is not None and not target.is_relative_to(roots[0]) and target not in followed:
                        followed.add(target)
                        waiting.append((entry.path, f"{name}/"))
                elif is_companion(name, _start(entry, status)):
                    unread.add_companion(name)
                elif not image:
                    unread.add(name)
                elif status is not None and stat.S_ISREG(status.st_mode):
                    yield File(name)
                else:
                    yield File(name, NOT_PLAIN)  # reading a pipe would wait forever


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a broken link, or a link to itself
        return None


def _start(entry: os.DirEntry[str], status: os.stat_result | None) -> bytes | None:
    """The first bytes of a file that is named like a resource fork; None where they do not matter."""
    if not entry.name.startswith("._") or status is None or not stat.S_ISREG(status.st_mode):
        return None
    try:
        with Path(entry.path).open("rb") as file:
            return file.read(4)
    except OSError:
        return None


def _target(path: str) -> Path | None:
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return None
