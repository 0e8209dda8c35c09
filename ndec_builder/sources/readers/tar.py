"""Kind `tar`: tar files and WebDataset shards, read in place. An image is addressed by its bytes in the shard."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ndec_builder.core.addresses import Slice
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import containers, is_uri, open_container, scanned
from ndec_builder.sources.listing import Lister, SourceContents, name_all, stem
from ndec_builder.sources.metadata import licence_columns, metadata_group, metadata_rotation
from ndec_builder.sources.readers.zip import Member, escapes_archive
from ndec_builder.sources.settings import IngestConfig

_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_MAX_METADATA = 1 << 20  # bytes of a json or txt beside an image
_TEXTS = {".json", ".txt"}
_HINT = "give a tar file, a folder with tar files, or a pattern such as `shards/{000..099}.tar`"


@dataclass
class Sample:
    """The files of a shard that share a key, as WebDataset means it: the path up to the first dot of the name."""

    key: str
    images: list[Member] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images of the shards, with what json and txt members of the same key say of them.

    A shard that is cut is used up to the cut; the cut is a gap. Raises UsageError for packed shards, whose members have
    no place of their own, and when there is none.
    """
    shards = containers(config.source, ".tar", workspace, _HINT) if not _is_packed_name(config) else _packed(config)
    lister = Lister(config.role, config.license)
    gaps: list[str] = []
    count = 0
    for uri, name in shards:
        found, cuts = scanned(lambda uri=uri, name=name: _scan(uri, name), name)  # type: ignore[misc]
        gaps += cuts
        for sample in found:
            for member in sample.images:
                count += 1
                if member.problem:
                    lister.reject(stem(member.name), f"{uri}#{member.name}", member.problem)
                    continue
                image_id = stem(member.name)
                lister.add(
                    image_id,
                    member.uri,
                    group=metadata_group(
                        sample.metadata, config.group_by, image_id, PurePosixPath(member.name).parent.name
                    ),
                    rotation=metadata_rotation(sample.metadata),
                    stamp=member.size,
                    **licence_columns(sample.metadata),
                )
    if not count:
        raise UsageError(
            f"no image in {config.source}: no member of {name_all('shards', [n for _, n in shards])} is one"
        )
    return SourceContents({config.role: lister.finish()}, tuple(gaps))


def _scan(uri: str, name: str) -> tuple[list[Sample], list[str]]:
    gaps: list[str] = []
    return list(samples(uri, name, gaps)), gaps


def _is_packed_name(config: IngestConfig) -> bool:
    return str(config.source).endswith((".gz", ".tgz", ".bz2", ".xz", ".zst"))


def _packed(config: IngestConfig) -> list[tuple[str, str]]:
    if not is_uri(config.source) and not Path(config.source).is_file():
        raise UsageError(f"{config.source} is not there; {_HINT}")
    raise UsageError(_why_not(str(config.source), "a compressed tar"))


def _why_not(name: str, what: str) -> str:
    return (
        f"{name} is {what}: its members have no place of their own, so that one image could only be had by "
        "unpacking all "
        f"before it; unpack it to a plain tar once (e.g. `gunzip -k {name}`) and give that"
    )


def samples(uri: str, name: str, gaps: list[str]) -> Iterator[Sample]:
    """Yield the samples of one shard in its order; a cut is told in `gaps`. Raises UsageError, NdecError."""
    sample: Sample | None = None
    for member, data in members(uri, name, gaps):
        folder, _, base = member.name.rpartition("/")
        key = f"{folder}/{base.split('.', 1)[0]}"
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(key)
        if data is None:
            sample.images.append(member)
        else:
            sample.metadata.update(_text(member.name, data))
    if sample is not None:
        yield sample


def members(uri: str, name: str, gaps: list[str]) -> Iterator[tuple[Member, bytes | None]]:
    """Yield image members (without their bytes) and the texts beside them, and what is wrong with a member."""
    with open_container(name) as file:
        start = file.read(4)
        file.seek(0)
        if packed := _PACKED.get(start[:2]):
            raise UsageError(_why_not(name, f"packed with {packed}"))
        size = file.seek(0, 2)
        file.seek(0)
        count, end = 0, 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for entry in tar:
                    suffix = PurePosixPath(entry.name).suffix.lower()
                    end = entry.offset_data + entry.size
                    if entry.isreg() and end > size:
                        raise tarfile.ReadError(f"its member {entry.name} is cut")
                    count += 1
                    if suffix in SUFFIXES and not entry.isdir():
                        yield _member(uri, entry), None
                    elif suffix in _TEXTS and entry.isreg() and entry.size <= _MAX_METADATA:
                        file.seek(entry.offset_data)
                        yield Member(entry.name, uri, entry.size), file.read(entry.size)
                    tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise: gigabytes for a large shard
            if not _ends_well(file, end, size):
                raise tarfile.ReadError("the end mark is missing")
        except (tarfile.TarError, EOFError) as error:
            if not count:
                raise NdecError(f"{name} cannot be read as a tar file ({error}); is it complete, and a tar?") from None
            gaps.append(
                f"{name} is cut after {count} members ({error}); they are kept: copy the file again, it is incomplete"
            )


def _ends_well(file: Any, end: int, size: int) -> bool:
    """A whole tar ends in two blocks of zeros; without them it may have been cut between two members."""
    file.seek(-(-end // 512) * 512)
    return file.read(512) == bytes(512) if size else False


def _member(uri: str, entry: tarfile.TarInfo) -> Member:
    if escapes_archive(entry.name):
        return Member(entry.name, uri, 0, "its path leads out of the archive")
    if entry.issym() or entry.islnk():
        return Member(entry.name, uri, 0, "a link, not a file")
    if not entry.isreg() or entry.issparse():
        return Member(entry.name, uri, 0, "a device or a sparse file, not a plain one")
    if entry.size == 0:
        return Member(entry.name, uri, 0, "empty file")
    return Member(entry.name, Slice(uri, entry.offset_data, entry.offset_data + entry.size).uri, entry.size)


def _text(name: str, data: bytes) -> Mapping[str, Any]:
    """What a json or txt member says; one that is broken says nothing, it is no reason to lose the image."""
    text = data.decode("utf-8", "replace")
    if name.lower().endswith(".txt"):
        return {"title": text.strip() or None}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
