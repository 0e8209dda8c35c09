"""`ndec fetch`: download the images of an attribution-only dataset, compare each with its sha256, say what is gone.

Polite: one connection and one request at a time to a host, a pause between two, a name in User-Agent, and waiting as
long as the host asks for. Resumable: a file that is there with the right bytes is not asked for again.
"""

from __future__ import annotations

import csv
import io
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ndec_builder.core.console import progress, say
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import sha256_bytes, sha256_file, write_bytes, write_text
from ndec_builder.manifests.csv_tables import IMAGE_TABLES, guarded_text
from ndec_builder.manifests.polite_http import Host, Refused
from ndec_builder.manifests.read import Manifest, open_manifest
from ndec_builder.manifests.settings import FetchConfig

REPORT = "fetch.csv"
# what became of an image, in the order of the report's summary
STATES = ("fetched", "there", "gone", "changed", "refused", "failed", "no_url")
GAPS = STATES[2:]


@dataclass(frozen=True)
class Wanted:
    """An image to get: where it goes, where it is said to be, and the sha256 that decides."""

    table: str
    image_id: str
    path: Path
    url: str
    sha256: str


@dataclass(frozen=True)
class Outcome:
    wanted: Wanted
    state: str
    detail: str = ""


def run(config: FetchConfig) -> Path:
    """Fetch what is missing into the dataset's images folder, write fetch.csv, return the dataset's directory.

    Raises UsageError for settings that cannot be and for a dataset with images of its own, GapsError (after everything
    is written) when an image is gone, was changed, or could not be had.
    """
    _check(config)
    manifest = open_manifest(config.manifest)
    if manifest.form != "attribution_only":
        raise UsageError(
            f"{config.manifest} is not attribution-only (its images: {manifest.form}), so there is nothing to fetch; "
            "`ndec validate` says which of its images are missing"
        )
    wanted = list(wanted_images(manifest))
    outcomes = fetch(wanted, config)
    outcomes.sort(key=lambda outcome: (outcome.wanted.table, outcome.wanted.image_id))
    report = config.manifest / REPORT
    write_text(report, report_csv(outcomes))
    counts = Counter(outcome.state for outcome in outcomes)
    summary = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    say(f"{len(wanted):,} images: {summary}; {report} lists them")
    gaps = sum(counts[state] for state in GAPS)
    if gaps:
        first = next(outcome for outcome in outcomes if outcome.state in GAPS)
        raise GapsError(
            f"{gaps:,} of {len(wanted):,} images are missing ({summary}); the first: {first.wanted.image_id} "
            f"{first.state} ({first.detail}). {report} lists all; run the same command again for those that failed, "
            "those gone or changed must be left out of a comparison"
        )
    return config.manifest


def wanted_images(manifest: Manifest) -> Iterator[Wanted]:
    """Every image once, in the order of the tables; a web address in `uri` goes before original_url."""
    for name, key in IMAGE_TABLES.items():
        stored, placed = manifest.stored(name), manifest.table(name)
        columns = [stored[column].to_pylist() for column in (key, "uri", "original_url", "sha256")]
        for image_id, uri, original, sha256, place in zip(*columns, placed["uri"].to_pylist(), strict=True):
            yield Wanted(name, image_id, Path(manifest.resolve(place)), uri or original or "", sha256 or "")


def fetch(wanted: list[Wanted], config: FetchConfig) -> list[Outcome]:
    """The outcome of every image, hosts side by side, the images of one host one after the other."""
    by_host: dict[str, list[Wanted]] = {}
    outcomes: list[Outcome] = []
    hosts = Hosts(config)
    with progress() as bar, ThreadPoolExecutor(config.hosts) as pool:
        task = bar.add_task("fetching images", total=len(wanted))
        for item in wanted:
            if item.path.is_file() and sha256_file(item.path) == item.sha256:
                outcomes.append(Outcome(item, "there"))
                bar.advance(task)
            else:
                by_host.setdefault(urlsplit(item.url).netloc, []).append(item)

        def one_host(items: list[Wanted]) -> list[Outcome]:
            found = []
            for item in items:
                found.append(_get(item, hosts))
                bar.advance(task)
            return found

        for found in pool.map(one_host, by_host.values()):
            outcomes += found
    return outcomes


def report_csv(outcomes: list[Outcome]) -> str:
    """table, image_id, state, detail, url; outside text is defused for spreadsheets."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("table", "image_id", "state", "detail", "url"))
    for outcome in outcomes:
        item = outcome.wanted
        cells = (item.table, item.image_id, outcome.state, outcome.detail, item.url)
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


def _get(item: Wanted, hosts: Hosts) -> Outcome:
    if not item.url:
        return Outcome(item, "no_url", "neither uri nor original_url is a web address")
    try:
        data = hosts.get(item.url)
    except Refused as refused:
        return Outcome(item, refused.state, refused.detail)
    found = sha256_bytes(data)
    if found != item.sha256:
        return Outcome(item, "changed", f"sha256 {found}, {len(data)} bytes")
    try:
        write_bytes(item.path, data)
    except OSError as error:
        raise NdecError(
            f"{item.path} cannot be written ({error.strerror}); free some room, then run it again"
        ) from None
    return Outcome(item, "fetched")


def _check(config: FetchConfig) -> None:
    limits: dict[str, tuple[Any, float]] = {
        "delay": (config.delay, 0), "retries": (config.retries, 0), "timeout": (config.timeout, 0.001),
        "max_wait": (config.max_wait, 0), "max_megabytes": (config.max_megabytes, 1), "hosts": (config.hosts, 1),
    }  # fmt: skip
    for name, (value, low) in limits.items():
        if value < low:
            raise UsageError(f"{name} of [fetch] is {value}; it must be at least {low:g}")
    if not config.contact.isprintable() or not config.contact.isascii():
        raise UsageError(f"contact {config.contact!r} goes into an HTTP header; use plain ASCII text")
