"""Kind `tar`: tar files and WebDataset shards, read in place. An image is addressed by its bytes in the shard."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ndec_builder.core.addresses import Slice
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import containers, is_uri, labels, missing_parts, open_container, scanned
from ndec_builder.sources.listing import SourceContents, name_all, stem, without_ending
from ndec_builder.sources.metadata import described_orientation
from ndec_builder.sources.readers.described import FORMATS_WITH_LATE_EXIF, ORIENTATION_BYTES, DescribedImages
from ndec_builder.sources.readers.sidecars import SIDECARS, Sidecars, plain_path
from ndec_builder.sources.readers.zip import Member, escapes_archive
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread, is_companion

_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_MAX_SIDECAR = 1 << 20  # bytes of a json or txt that belongs to an image
_HINT = "give a tar file, a folder with tar files, or a pattern such as `shards/{000..099}.tar`"


@dataclass(frozen=True)
class TarContents:
    """What one shard holds."""

    images: list[Member]
    sidecars: Sidecars
    starts: dict[str, bytes]  # of the images that are rotated according to their sidecar
    gaps: list[str]
    unread: Unread


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images of the shards, with the metadata in their json and txt members (`readers/sidecars.py`).

    A truncated shard is used up to the cut, and the cut is a gap. Raises UsageError for compressed shards, whose
    members cannot be read in place, and when no shard or no image exists.
    """
    images = DescribedImages(config)
    if _is_packed_name(config):
        _refuse_packed(config)
    shards = containers(config.source, ".tar", workspace, _HINT, images.unread)
    gaps = missing_parts(config.source, [name for _, name in shards])
    notes: list[str] = []
    count = 0
    for (uri, name), label in zip(shards, labels([uri for uri, _ in shards]), strict=True):
        shard = scanned(partial(_scan, uri, name), name)
        images.unread.update(shard.unread)
        gaps += shard.gaps
        notes += shard.sidecars.notes(name, [member.name for member in shard.images])
        count += len(shard.images)
        for member in shard.images:
            metadata, path = shard.sidecars.of(member.name), plain_path(member.name)
            longer = (without_ending(path), path, f"{label}/{without_ending(path)}", f"{label}/{path}")
            images.add(
                f"{uri}#{member.name}" if member.problem else member.uri, stem(path), longer, metadata,
                path, read=partial(shard.starts.__getitem__, member.name),
                problem=member.problem, id_values=metadata if config.id else {},
            )  # fmt: skip
    if not count:
        text = f"no image in {config.source}: no member of {name_all([n for _, n in shards], 'shard', 'shards')} is one"
        raise UsageError(". ".join(part for part in (text, images.unread.note()) if part))
    return images.contents(gaps, notes)


def _scan(uri: str, name: str) -> TarContents:
    gaps: list[str] = []
    unread = Unread()
    images: list[Member] = []
    sidecars = Sidecars()
    places: dict[str, tuple[int, int]] = {}
    with open_container(name) as file:
        for member, place, data in members(file, uri, name, gaps, unread):
            if data is None:
                images.append(member)
                places[member.name] = place
            else:
                sidecars.add(member.name, data)
        sidecars.join([member.name for member in images])
        rotated = [image for image in places if described_orientation(sidecars.of(image))]
        starts = {image: _start(file, *places[image], image) for image in rotated}
    return TarContents(images, sidecars, starts, gaps, unread)


def _start(file: Any, start: int, size: int, name: str) -> bytes:
    """The bytes of an image that hold its EXIF."""
    file.seek(start)
    late = PurePosixPath(name).suffix.lower() in FORMATS_WITH_LATE_EXIF
    data: bytes = file.read(size if late else min(size, ORIENTATION_BYTES))
    return data


def _is_packed_name(config: IngestConfig) -> bool:
    return str(config.source).endswith((".gz", ".tgz", ".bz2", ".xz", ".zst"))


def _refuse_packed(config: IngestConfig) -> None:
    if not is_uri(config.source) and not Path(config.source).is_file():
        raise UsageError(f"{config.source} does not exist; {_HINT}")
    raise UsageError(_why_not(str(config.source), "a compressed tar"))


def _why_not(name: str, what: str) -> str:
    return (
        f"{name} is {what}: reading one image of it means unpacking everything before it. Unpack it to a plain tar "
        f"once (e.g. `gunzip -k {name}`) and give that"
    )


def members(
    file: Any, uri: str, name: str, gaps: list[str], unread: Unread
) -> Iterator[tuple[Member, tuple[int, int], bytes | None]]:
    """Yield (member, its first byte and size, None) of images, and the same with their bytes of sidecars.

    `file`: the open shard. A truncated shard adds a phrase to `gaps`; members of other kinds are counted in `unread`.
    """
    start = file.read(4)
    file.seek(0)
    if packed := _PACKED.get(start[:2]):
        raise UsageError(_why_not(name, f"compressed with {packed}"))
    size = file.seek(0, 2)
    file.seek(0)
    count, end = 0, 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for entry in tar:
                end = entry.offset_data + entry.size
                if entry.isreg() and end > size:
                    raise tarfile.ReadError(f"its member {entry.name} is cut")
                count += 1
                if not entry.isdir():
                    yield from _member(file, uri, entry, unread)
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise: gigabytes for a large shard
        if not _ends_well(file, end, size):
            raise tarfile.ReadError("the end mark is missing")
    except (tarfile.TarError, EOFError) as error:
        if not count:
            raise NdecError(f"{name} cannot be read as a tar file ({error}); is it complete, and a tar?") from None
        gaps.append(
            f"{name} is cut after {count} members ({error}); they are kept: copy the file again, it is incomplete"
        )


def _member(
    file: Any, uri: str, entry: tarfile.TarInfo, unread: Unread
) -> Iterator[tuple[Member, tuple[int, int], bytes | None]]:
    suffix, place = PurePosixPath(entry.name).suffix.lower(), (entry.offset_data, entry.size)
    start = None
    if entry.isreg() and PurePosixPath(entry.name).name.startswith("._"):
        file.seek(entry.offset_data)
        start = file.read(min(4, entry.size))
    if is_companion(entry.name, start):
        unread.add_companion(entry.name)
    elif suffix in SUFFIXES:
        yield _image(uri, entry), place, None
    elif suffix in SIDECARS and entry.isreg() and entry.size <= _MAX_SIDECAR:
        file.seek(entry.offset_data)
        yield Member(entry.name, uri, entry.size), place, file.read(entry.size)
    else:
        unread.add(entry.name)


def _ends_well(file: Any, end: int, size: int) -> bool:
    """A complete tar ends in two blocks of zeros. Without them it may have been cut between two members."""
    file.seek(-(-end // 512) * 512)
    return file.read(512) == bytes(512) if size else False


def _image(uri: str, entry: tarfile.TarInfo) -> Member:
    if escapes_archive(entry.name):
        return Member(entry.name, uri, 0, "its path leads out of the archive")
    if entry.issym() or entry.islnk():
        return Member(entry.name, uri, 0, "a link, not a file")
    if not entry.isreg() or entry.issparse():
        return Member(entry.name, uri, 0, "a device or a sparse file, not a plain one")
    if entry.size == 0:
        return Member(entry.name, uri, 0, "empty file")
    return Member(entry.name, Slice(uri, entry.offset_data, entry.offset_data + entry.size).uri, entry.size)
