"""`ndec fetch`: download the images of an attribution-only dataset and check each sha256.

Edited copies have no address of their own (theirs is that of the picture that they were made from): they are made again
from their reference.

Polite: one connection and one request at a time per host, a pause between requests, a User-Agent that names ndec, and
Retry-After is respected. Resumable: files that exist with the right bytes are not requested again.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.console import number_of, progress, say
from ndec_builder.core.decode import DecodeError
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.storage import sha256_bytes, sha256_file, write_bytes, write_text
from ndec_builder.manifests.csv_tables import IMAGE_TABLES, guarded_text
from ndec_builder.manifests.polite_http import Host, Refused
from ndec_builder.manifests.read import Manifest, open_manifest
from ndec_builder.manifests.settings import FetchConfig

_REPORT = "fetch.csv"
# state of an image, in the order of the summary
FETCH_STATES = ("fetched", "made", "there", "gone", "changed", "refused", "failed", "no_url", "not_made")
_GAPS = FETCH_STATES[3:]


@dataclass(frozen=True)
class WantedImage:
    """An image to download: target path, address, and the sha256 that it must have."""

    table: str
    image_id: str
    path: Path
    url: str
    sha256: str


@dataclass(frozen=True)
class EditedCopy:
    """A query that `ndec edit` made, the reference in the ground truth, and that one's clockwise rotation.

    own_address: whether its address is not that of the reference.
    """

    wanted: WantedImage
    edit: str
    reference: WantedImage
    rotation: int
    own_address: bool


@dataclass(frozen=True)
class FetchResult:
    wanted: WantedImage
    state: str
    detail: str = ""


@one_writer(lambda config: config.manifest)
def run(config: FetchConfig) -> Path:
    """Fetch what is missing into the dataset's images folder, write fetch.csv, return the dataset's directory.

    Raises UsageError for invalid settings and for a dataset that is not attribution-only, and GapsError (after
    everything is written) when an image is gone, changed, or could not be downloaded.
    """
    manifest = open_manifest(config.manifest)
    if manifest.form != "attribution_only":
        raise UsageError(
            f"{config.manifest} is not attribution-only (its images: {manifest.form}), so there is nothing to fetch; "
            "`ndec validate` says which of its images are missing"
        )
    wanted = list(wanted_images(manifest))
    root = config.manifest.resolve()
    for folder in {item.path.parent for item in wanted}:
        if not folder.resolve().is_relative_to(root):
            raise NdecError(f"{folder} leads out of {config.manifest} through a link; nothing was downloaded")
    copies = edited_copies(manifest, wanted)
    without_address = {path for path, copy in copies.items() if not copy.own_address}
    outcomes = fetch_images([item for item in wanted if item.path not in without_address], config)
    outcomes = _with_copies_made(outcomes, copies)
    outcomes.sort(key=lambda outcome: (outcome.wanted.table, outcome.wanted.image_id))
    report = config.manifest / _REPORT
    write_text(report, report_csv(outcomes))
    counts = Counter(outcome.state for outcome in outcomes)
    summary = ", ".join(f"{counts[state]:,} {state}" for state in FETCH_STATES if counts[state])
    say(f"{number_of(len(wanted), 'image')}: {summary}; {report} lists them")
    gaps = sum(counts[state] for state in _GAPS)
    if gaps:
        first = next(outcome for outcome in outcomes if outcome.state in _GAPS)
        raise GapsError(
            f"{gaps:,} of {len(wanted):,} images are missing ({summary}); the first: {first.wanted.image_id} "
            f"{first.state} ({first.detail}). {report} lists all; run the same command again for those that failed, "
            "images that are gone, changed or not made must be left out of a comparison"
        )
    return config.manifest


def wanted_images(manifest: Manifest) -> Iterator[WantedImage]:
    """Every image once, in table order; a web address in `uri` takes precedence over original_url."""
    for name, key in IMAGE_TABLES.items():
        stored, placed = manifest.stored(name), manifest.table(name)
        columns = [stored[column].to_pylist() for column in (key, "uri", "original_url", "sha256")]
        for image_id, uri, original, sha256, place in zip(*columns, placed["uri"].to_pylist(), strict=True):
            yield WantedImage(name, image_id, Path(manifest.resolve(place)), uri or original or "", sha256 or "")


def edited_copies(manifest: Manifest, wanted: list[WantedImage]) -> dict[Path, EditedCopy]:
    """Path → copy, of the queries with a recorded edit and a reference, that were not read from a web address."""
    by_id = {(item.table, item.image_id): item for item in wanted}
    columns = ["image_id", "rotation", "original_url"]
    references = {row["image_id"]: row for row in manifest.stored("references").select(columns).to_pylist()}
    truth = manifest.stored("ground_truth").select(["query_id", "reference_id"]).to_pylist()
    origin = {row["query_id"]: row["reference_id"] for row in truth}
    found = {}
    for row in manifest.stored("queries").select(["query_id", "edit", "uri"]).to_pylist():
        source = references.get(origin.get(row["query_id"]))
        if row["edit"] and not row["uri"] and source is not None:
            item, reference = by_id["queries", row["query_id"]], by_id["references", source["image_id"]]
            own = item.url not in ("", reference.url, source["original_url"])
            found[item.path] = EditedCopy(item, row["edit"], reference, source["rotation"] or 0, own)
    return found


def _with_copies_made(outcomes: list[FetchResult], copies: Mapping[Path, EditedCopy]) -> list[FetchResult]:
    """The outcomes with those of the copies that were not fetched."""
    done = {outcome.wanted.path for outcome in outcomes if outcome.state not in _GAPS}
    fetched = {outcome.wanted.path: outcome for outcome in outcomes}
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        left = [copy for path, copy in copies.items() if path not in done]
        task = bar.add_task("making edited copies", total=len(left))
        for outcome in pool.map(_make_again, left):
            if outcome.state not in _GAPS or outcome.wanted.path not in fetched:
                fetched[outcome.wanted.path] = outcome
            bar.advance(task)
    return list(fetched.values())


def _make_again(copy: EditedCopy) -> FetchResult:
    from ndec_builder.edits.copy_files import make_again

    item, source = copy.wanted, copy.reference
    if _is_there(item):
        return FetchResult(item, "there")
    what = f"an edited copy of the reference {source.image_id}"
    if not _is_there(source):
        return FetchResult(item, "not_made", f"{what}, which is missing")
    try:
        data = make_again(item.image_id, copy.edit, source.path.read_bytes(), copy.rotation)
    except DecodeError as error:
        return FetchResult(item, "not_made", f"{what}: {error}")
    if data is None or sha256_bytes(data) != item.sha256:
        why = "other edits" if data is None else "other bytes"
        return FetchResult(
            item, "not_made", f"{what}; made again it has {why}: use the versions of ndec and Pillow of the dataset"
        )
    _write(item, data)
    return FetchResult(item, "made")


def _is_there(item: WantedImage) -> bool:
    return item.path.is_file() and sha256_file(item.path) == item.sha256


def fetch_images(wanted: list[WantedImage], config: FetchConfig) -> list[FetchResult]:
    """Download all images: hosts in parallel, the images of one host one after the other."""
    by_host: dict[str, list[WantedImage]] = {}
    outcomes: list[FetchResult] = []
    hosts = Hosts(config)
    with progress() as bar, ThreadPoolExecutor(config.hosts) as pool:
        task = bar.add_task("fetching images", total=len(wanted))
        for item in wanted:
            if _is_there(item):
                outcomes.append(FetchResult(item, "there"))
                bar.advance(task)
            else:
                by_host.setdefault(urlsplit(item.url).netloc, []).append(item)

        def one_host(items: list[WantedImage]) -> list[FetchResult]:
            found = []
            for item in items:
                found.append(_get(item, hosts))
                bar.advance(task)
            return found

        for found in pool.map(one_host, by_host.values()):
            outcomes += found
    return outcomes


def report_csv(outcomes: list[FetchResult]) -> str:
    """table, image_id, state, detail, url; an apostrophe defuses cells that start like a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("table", "image_id", "state", "detail", "url"))
    for outcome in outcomes:
        item = outcome.wanted
        cells = (item.table, item.image_id, outcome.state, outcome.detail, without_credentials(item.url))
        writer.writerow([guarded_text(cell) for cell in cells])
    return buffer.getvalue()


class Hosts:
    """One `Host` for each name, made when it is first asked for; redirects to another host go through its one too."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._hosts: dict[str, Host] = {}

    def of(self, url: str) -> Host:
        name = urlsplit(url).netloc
        with self._lock:
            if name not in self._hosts:
                self._hosts[name] = Host(self.config)
            return self._hosts[name]

    def get(self, url: str) -> bytes:
        """The body at a URL, redirects followed. Raises Refused with a state of STATES."""
        for _ in range(5):
            answer = self.of(url).get(url)
            if answer.location is None:
                return answer.body
            url = answer.location
        raise Refused("failed", "more than 5 redirects")


def _get(item: WantedImage, hosts: Hosts) -> FetchResult:
    if not item.url:
        return FetchResult(item, "no_url", "neither uri nor original_url is a web address")
    try:
        data = hosts.get(item.url)
    except Refused as refused:
        return FetchResult(item, refused.state, refused.detail)
    found = sha256_bytes(data)
    if found != item.sha256:
        return FetchResult(item, "changed", f"sha256 {found}, {len(data)} bytes")
    _write(item, data)
    return FetchResult(item, "fetched")


def _write(item: WantedImage, data: bytes) -> None:
    try:
        write_bytes(item.path, data)
    except OSError as error:
        raise NdecError(
            f"{item.path} cannot be written ({error.strerror}); free some space and run the command again"
        ) from None
