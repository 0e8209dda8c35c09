"""Find the place of every listed image, and give each its group (`grouping.py` has the rules)."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.addresses import container
from ndec_builder.core.console import track
from ndec_builder.core.errors import UsageError
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.capture_times import CaptureTime, capture_time
from ndec_builder.sources.grouping import (
    PAUSES,
    ImagePlace,
    digest,
    find_groups,
    grouping_note,
    own_group,
    series_hint,
)
from ndec_builder.sources.listing import Listing, stem
from ndec_builder.sources.settings import OWN_GROUPS, IngestConfig

_HINTED = 100_000  # images whose names are searched for series


def with_groups(listing: Listing, config: IngestConfig, workspace: Workspace) -> Listing:
    """The listing with a group for each image. Groups that the source names itself stay as they are.

    A sentence about the groups is added to its note. Raises UsageError for a folder of `group_with` that is missing.
    """
    rule = effective_rule(config)
    images, addresses = listing.images, _Addresses(workspace)
    uris = images["uri"].to_pylist()
    own = [
        own_group(image_id, addresses.of(uri))
        for image_id, uri in zip(images["image_id"].to_pylist(), uris, strict=True)
    ]
    given, note = images["group"], ""
    if rule in ("none", "author"):
        if rule == "author" and given.null_count:
            note = f"{given.null_count:,} of {len(given):,} images have no author: each is its own group"
        elif config.group_by == "auto" and given.null_count == len(given):
            note = series_hint(list(_places(listing, config, addresses, _HINTED)))
    else:
        places = list(_places(listing, config, addresses))
        known = {place.address for place in places}
        others = [place for place in _others(config, workspace, addresses) if place.address not in known]
        if rule in PAUSES:
            found = _times(
                [*uris, *(addresses.uri[place.address] for place in others)], [*places, *others], config, workspace
            )
            timed = [replace(place, time=time) for place, time in zip([*places, *others], found, strict=True)]
            places, others = timed[: len(places)], timed[len(places) :]
        names = find_groups(rule, [*places, *others], config.group_pause)[: len(places)]
        given, note = pa.array(names, pa.string()), grouping_note(rule, places, names)
    chosen = config.group_by != "auto"  # then pictures that the rule leaves alone are alone by that choice
    grouped = images["image_id"] if chosen else images["image_id"].filter(pc.is_valid(given))
    groups = pc.coalesce(given, pa.array(own, pa.string()))
    images = images.set_column(images.schema.get_field_index("group"), IMAGES.field("group"), groups)
    said = "; ".join(text for text in (listing.note, note) if text)
    return replace(listing, images=images, note=said, grouped=grouped.combine_chunks())


def effective_rule(config: IngestConfig) -> str:
    """The rule of a config: `auto` is folder for class folders, else none; `image` is an older name of none.

    Kinds whose files define the groups need no rule.
    """
    if config.kind in OWN_GROUPS:
        return "none"
    if config.group_by == "auto":
        return "folder" if config.kind == "imagefolder" else "none"
    return "none" if config.group_by == "image" else config.group_by


class _Addresses:
    """Addresses of images and folders that stay the same when the workspace and its sources are moved together."""

    def __init__(self, workspace: Workspace) -> None:
        root = os.path.normpath(workspace.root.absolute())
        self._relative = lru_cache(maxsize=100_000)(lambda folder: os.path.relpath(folder, root))
        self.uri: dict[str, str] = {}  # of the images of other folders

    def of(self, uri: str) -> str:
        if "://" in uri or not uri.startswith("/"):
            return uri
        folder, _, file = uri.partition("#")[0].rpartition("/")
        return f"{self._relative(folder or '/')}/{file}{uri[len(folder) + 1 + len(file) :]}"


def _places(
    listing: Listing, config: IngestConfig, addresses: _Addresses, most: int | None = None
) -> Iterator[ImagePlace]:
    """The places of the first `most` images, in the order of the listing."""
    names = listing.places.to_pylist()[:most] if listing.places is not None else [None] * len(listing.images)
    uris = listing.images["uri"].slice(0, most).to_pylist()
    source, shared = addresses.of(_absolute(config.source)), _collection(config, addresses)
    for uri, name in zip(uris, names, strict=True):
        address, plain = addresses.of(uri), container(uri) == uri
        folder, _, file = ((address if plain else name) or "").rpartition("/")
        if not plain:
            folder = f"{source}!{folder}"
        yield _place(address, shared, folder, file, name or "", source)


def _place(address: str, shared: str, folder: str, file: str, below: str, source: str) -> ImagePlace:
    """`below`: the path below the source · `shared`: the collection that the source is part of, or empty."""
    parent, _, _ = below.rpartition("/")
    top = f"{shared or source}/{below.partition('/')[0]}" if parent else ""
    return ImagePlace(address, f"{shared}/{parent}" if shared else folder, stem(file), top)


def _others(config: IngestConfig, workspace: Workspace, addresses: _Addresses) -> Iterator[ImagePlace]:
    """The places of the images in the folders of `group_with`."""
    from ndec_builder.sources.readers.folder import files_below
    from ndec_builder.sources.unread import Unread

    shared = _collection(config, addresses)
    for root in config.group_with:
        for uri, file in files_below(root, workspace, Unread(), follow=config.follow_links):
            if not file.problem:
                address = addresses.of(uri)
                addresses.uri[address] = uri
                yield _place(address, shared, "", file.name.rpartition("/")[2], file.name, "")


def _collection(config: IngestConfig, addresses: _Addresses) -> str:
    """A name for the source together with the folders of `group_with`, the same from each of them; empty without."""
    if not config.group_with:
        return ""
    if config.kind not in ("folder", "imagefolder"):
        raise UsageError(f"--group-with joins folders; {config.source} is read as {config.kind!r}")
    return digest("\n".join(sorted({addresses.of(_absolute(each)) for each in (config.source, *config.group_with)})))


def _absolute(source: Path | str) -> str:
    return str(source).rstrip("/") if "://" in str(source) else os.path.normpath(Path(source).absolute())


def _times(
    uris: list[str], places: list[ImagePlace], config: IngestConfig, workspace: Workspace
) -> list[CaptureTime | None]:
    remote = config.look in ("header", "decode")  # otherwise nothing is downloaded

    def time_of(uri: str, place: ImagePlace) -> CaptureTime | None:
        return capture_time(workspace.resolve(uri), place.name, read=remote if "://" in uri else config.look != "list")

    with concurrent.futures.ThreadPoolExecutor(config.workers or os.cpu_count() or 1) as pool:
        return list(track(pool.map(time_of, uris, places), len(uris), "reading capture times"))
