"""Kind `disc21`: images of DISC21 in folders and zips. The first letter of an id gives the role."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import is_uri
from ndec_builder.sources.listing import Lister, SourceContents, name_all, stem
from ndec_builder.sources.readers.folder import files_below
from ndec_builder.sources.readers.image_list import read_lines
from ndec_builder.sources.readers.zip import zip_members
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread

ROLE_OF = {"R": "reference", "Q": "query", "T": "basic"}
_ID = re.compile(r"[RQT]\d{5,6}\Z")  # R000000, T000000, Q00000
_ENDINGS = frozenset({*SUFFIXES, ".zip"})


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images whose id belongs to the role (all of them for role `all`), from folders and the zips in them.

    With `--ids` only the ids of that list; ids without an image are named. Raises UsageError when no image matches,
    NdecError for a zip with a member outside of it.
    """
    wanted = _wanted(config)
    roles = [role for role in ROLE_OF.values() if config.role in (role, "all")]
    if not roles:
        raise UsageError(
            f"DISC21 has images for {', '.join(ROLE_OF.values())}, but none for the role {config.role!r}; to use them "
            f"as {config.role}, give --kind folder"
        )
    listers = {role: Lister(role, config.license) for role in roles}
    seen: set[str] = set()
    unread = Unread()
    other: list[str] = []
    for image_id, uri, problem in _files(config, workspace, unread):
        role = ROLE_OF[image_id[0]] if _ID.match(image_id) else None
        if role is None:
            other.append(image_id)
        if role not in listers or (wanted is not None and image_id not in wanted):
            continue
        seen.add(image_id)
        if problem:
            listers[role].reject(image_id, uri, problem)
        else:
            listers[role].add(image_id, uri, group=image_id)
    if not seen:
        raise UsageError(
            f"no DISC21 image of the role {config.role!r} in {config.source}: an id is R (reference), Q (query) or T "
            f"(basic) and 5 or 6 digits"
            + (f"; {name_all(other, 'other image was found', 'other images were found')}" if other else "")
            + (f". {unread.note()}" if unread.note() else "")
        )
    gaps = []
    if wanted is not None and (missing := {i for i in wanted if ROLE_OF[i[0]] in listers} - seen):
        gaps.append(name_all(missing, f"id of {config.ids} has no image", f"ids of {config.ids} have no image"))
    if other:
        gaps.append(
            name_all(
                other,
                "image is left out because its id is no DISC21 id",
                "images are left out because their ids are no DISC21 ids",
            )
        )
    inputs = {config.ids.name: sha256_file(config.ids)} if config.ids else {}
    found = {role: lister.finish() for role, lister in listers.items()}
    used = {role: f for role, f in found.items() if f.images.num_rows or f.rejects}
    return SourceContents(used, tuple(gaps), inputs=inputs, notes=(unread.note(),))


def _wanted(config: IngestConfig) -> set[str] | None:
    if config.ids is None:
        return None
    ids = [stem(line) for line in read_lines(config.ids, "list of ids")]
    if bad := [image_id for image_id in ids if not _ID.match(image_id)]:
        raise NdecError(
            f"{config.ids} holds {name_all(bad, 'entry that is no DISC21 id', 'entries that are no DISC21 ids')}; "
            "one id per line, e.g. R000001"
        )
    if len(set(ids)) < len(ids):
        twice = [image_id for image_id, count in Counter(ids).items() if count > 1]
        raise NdecError(
            f"{config.ids}: {name_all(twice, 'id appears twice', 'ids appear twice')}; remove the repetitions"
        )
    return set(ids)


def _files(config: IngestConfig, workspace: Workspace, unread: Unread) -> Iterator[tuple[str, str, str]]:
    """Yield (id, uri, problem) of the images in a folder, a zip, or the zips of a folder."""
    source = config.source
    if str(source).lower().endswith(".zip"):
        if not is_uri(source) and not Path(source).is_file():
            raise UsageError(f"{source} does not exist; give a folder or zip with DISC21 images")
        yield from _zipped(str(source) if is_uri(source) else workspace.uri_of(Path(source)), str(source), unread)
        return
    for uri, file in files_below(source, workspace, unread, _ENDINGS, config.follow_links):
        if file.name.lower().endswith(".zip") and not file.problem:
            yield from _zipped(uri, workspace.resolve(uri), unread)
        else:
            yield stem(file.name), uri, file.problem


def _zipped(uri: str, name: str, unread: Unread) -> Iterator[tuple[str, str, str]]:
    for member in zip_members(uri, name, frozenset(SUFFIXES), unread):
        yield stem(member.name), f"{uri}#{member.name}" if member.problem else member.uri, member.problem
