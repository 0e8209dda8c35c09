"""List the usable pictures of the fetched packages or of the user's folder, before decoding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.console import say
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.pictures.formats import PILLOW_SUFFIXES
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.copyright_files import Copyright, read_copyright, stamp_title
from ndec_builder.demo.corpus.package_rules import RULES, VIDEO_SKIP, family_key
from ndec_builder.demo.corpus.packages import Package
from ndec_builder.demo.corpus.qt_resources import read_rcc
from ndec_builder.sources.ingest import list_source
from ndec_builder.sources.listing import printable, without_ending
from ndec_builder.sources.readers.folder import check_folder, walk_files
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread

VIDEO_SUFFIXES = {".avi", ".mp4"}
Licence = dict[str, str | None]


@dataclass(frozen=True)
class Original:
    """A picture before decoding; `read()` returns its bytes. Pictures of one `family` look alike; None: no family."""

    image_id: str
    read: Callable[[], bytes]
    family: str | None
    scene: bool  # the family shows one scene from several places or times, not several things of one kind
    photo: bool
    licence: Licence
    unit: str | None = None  # pictures of one unit go to the same split


@dataclass(frozen=True)
class Video:
    """A video file to take frames from."""

    image_id: str  # prefix of its frames' ids
    path: Path
    licence: Licence


def list_package(package: Package) -> tuple[list[Original], list[Video]]:
    """The pictures and videos of a package except those that its rule skips, ascending by id."""
    rule, terms = RULES[package.name], read_copyright(package)
    skip, photo = re.compile(rule.skip), re.compile(rule.photo)
    originals: dict[str, Original] = {}
    videos = []
    for path, file, read in _files(package):
        if Path(path).suffix.lower() in VIDEO_SUFFIXES:
            if not VIDEO_SKIP.search(path):
                videos.append(Video(_image_id(package.name, path), file, _licence(terms, package, path, file)))
        elif not skip.search(path):
            family = family_key(package.name, path)
            image_id = _image_id(package.name, path)
            originals[image_id] = Original(
                image_id,
                read,
                family,
                scene=any(family == f"{package.name}/{view[0]}" for view in rule.views),
                photo=bool(photo.search(path)),
                licence=_licence(terms, package, path, file),
            )
    return [originals[image_id] for image_id in sorted(originals)], sorted(videos, key=lambda video: video.image_id)


def list_folder(
    pictures: Iterable[tuple[str, Path]], workspace: Workspace, groups: Mapping[str, str] | None = None
) -> list[Original]:
    """The user's own photos (id, file): no families, licence unknown, `original_url` is the file.

    `groups`: uri → group; pictures of one group are in the same split.
    """
    return [
        Original(
            image_id, path.read_bytes, None, False, True, {"original_url": uri}, groups.get(uri) if groups else None
        )
        for image_id, path in sorted(pictures)
        for uri in [workspace.uri_of(path)]
    ]


def own_groups(folder: Path, group_by: str, workspace: Workspace) -> dict[str, str]:
    """uri → group of the pictures below a folder, by the rule `group_by` (docs/sources.md); prints what it found."""
    config = IngestConfig(workspace.root, "pool", folder, kind="folder", group_by=group_by)
    listing = list_source(config, workspace).listings["pool"]
    if listing.note:
        say(f"{folder}: {listing.note}")
    return dict(zip(listing.images["uri"].to_pylist(), listing.images["group"].to_pylist(), strict=True))


def find_own(folder: Path) -> list[tuple[str, Path]]:
    """(id, file) of the pictures below a folder, by (stem, path); other files are counted on stderr.

    An id is the file name without its ending; where these repeat, the path below the folder, with `__` for slashes.
    Raises UsageError when the folder is missing or is a file.
    """
    check_folder(folder)
    unread = Unread()
    files = list(walk_files(folder, frozenset(SUFFIXES), unread))
    problems = Counter(file.problem for file in files if file.problem)
    for note in (unread.note(), *(f"{count} × {problem}" for problem, count in problems.items())):
        if note:
            say(f"{folder}: {note}")
    names = sorted((file.name for file in files if not file.problem), key=lambda name: (Path(name).stem, name))
    for form in (lambda name: Path(name).stem, without_ending, str):
        ids = [printable(form(name)).replace("/", "__") for name in names]
        if len(set(ids)) == len(ids):
            break
    return [(image_id, folder / name) for image_id, name in zip(ids, names, strict=True)]


def _files(package: Package) -> Iterator[tuple[str, Path, Callable[[], bytes]]]:
    """Yield (path inside the package, file on disk, how to read it) of pictures and videos, also inside .rcc files."""
    for file in sorted(package.directory.rglob("*")):
        suffix = file.suffix.lower()
        path = file.relative_to(package.directory).as_posix()
        if suffix == ".rcc":
            for entry in read_rcc(file):
                if Path(entry.path).suffix.lower() in PILLOW_SUFFIXES:
                    inside = f"{file.name}/{entry.path.removeprefix('gcompris/')}"
                    yield inside, file, lambda data=entry.data: data  # type: ignore[misc]
        elif suffix in PILLOW_SUFFIXES | VIDEO_SUFFIXES and file.is_file():
            yield path, file, file.read_bytes


def _image_id(package: str, path: str) -> str:
    """`package-folders-name` in lower-case letters, digits and `-_`: safe in csv, file names and URLs."""
    inner = re.sub(r"^(usr/share/|doc/|gcompris/|src/activities/|[^/]*\.rcc/src/)+", "", path)
    inner = re.sub(
        r"^(activities|openclipart/png|kgeography|tuxpaint/stamps|backgrounds|opencv-doc/examples)/", "", inner
    )
    stem = inner.rsplit(".", 1)[0].replace("/resource/", "/")
    short = re.sub(r"-(data|doc|png|stamps-default|wallpapers.*|backgrounds|qt-data)$", "", package)
    return re.sub(r"[^a-z0-9_]+", "-", f"{short}-{stem}".lower()).strip("-")


def _licence(terms: Copyright, package: Package, path: str, file: Path) -> Licence:
    columns = terms.columns(_in_source_tree(path))
    columns["landing_url"] = columns.get("landing_url") or RULES[package.name].landing_url
    columns["title"] = stamp_title(file) or Path(path).stem
    return columns


def _in_source_tree(path: str) -> str:
    """Path of the file in the source package, assuming that packagers only moved folders."""
    return re.sub(r"^(usr/share/(doc/[^/]+/)?|[^/]*\.rcc/)", "", path).replace("examples/", "samples/", 1)
