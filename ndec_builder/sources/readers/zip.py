"""Images inside zip files, addressed in place: nothing is unpacked to disk."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ndec_builder.core.addresses import Slice
from ndec_builder.core.errors import NdecError
from ndec_builder.sources.containers import open_container, scanned
from ndec_builder.sources.unread import Unread, is_companion

_LOCAL_HEADER = 30  # bytes before name and extra field; the two lengths are its last four bytes


@dataclass(frozen=True)
class Member:
    """A file inside an archive: posix path, address, and why it cannot be used (empty: it can)."""

    name: str
    uri: str
    size: int
    problem: str = ""


def escapes_archive(name: str) -> bool:
    """Whether unpacking a member would write outside of the target folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":")


def file_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an open zip. Members without a name are skipped: Python's `is_dir` fails on them."""
    return [info for info in archive.infolist() if info.filename and not info.is_dir()]


def zip_members(uri: str, name: str, suffixes: frozenset[str], unread: Unread) -> Iterator[Member]:
    """Yield the members with these endings; `unread` counts the rest. Addresses use `uri`; `name` opens the archive.

    Raises NdecError for a file that is not a zip, or a zip with a member outside of it, which may be an attack.
    """
    found, rest = scanned(lambda: _scan(uri, name, suffixes), name)
    unread.update(rest)
    yield from found


def _scan(uri: str, name: str, suffixes: frozenset[str]) -> tuple[list[Member], Unread]:
    unread = Unread()
    try:
        with open_container(name) as file, zipfile.ZipFile(file) as archive:
            members = file_members(archive)
            if bad := [info.filename for info in members if escapes_archive(info.filename)]:
                raise NdecError(
                    f"{name} has members outside of it ({', '.join(map(repr, bad[:5]))}); ndec does not trust such a "
                    "zip and refuses all of it: get the original file again"
                )
            found = []
            for info in members:
                if is_companion(info.filename):
                    unread.add_companion(info.filename)
                elif PurePosixPath(info.filename).suffix.lower() in suffixes:
                    found.append(_member(uri, file, info))
                else:
                    unread.add(info.filename)
            return found, unread
    # Python raises NotImplementedError for an unknown zip version
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise NdecError(f"{name} cannot be read as a zip file ({error}); is it complete?") from None


def _member(uri: str, file: Any, info: zipfile.ZipInfo) -> Member:
    if info.flag_bits & 1:
        return Member(info.filename, uri, 0, "the zip member is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Member(info.filename, uri, 0, f"the zip member is packed by method {info.compress_type}; use deflate")
    if info.compress_size == 0:
        return Member(info.filename, uri, 0, "empty file")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        return Member(info.filename, uri, 0, "the zip directory does not point to a member; is the file complete?")
    start = info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", header[26:30]))
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Member(info.filename, Slice(uri, start, start + info.compress_size, deflated).uri, info.file_size)
