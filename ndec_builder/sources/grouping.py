"""Groups of images: `--group-by`. Images of one group are never in both training and test.

A group's name ends with a hash of its address (a folder, or the first of its images), relative to the workspace. So two
sources share a group only if they hold the same folder or image, never because of equal names.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ndec_builder.core.console import number_of
from ndec_builder.core.storage import sha256_bytes
from ndec_builder.sources.capture_times import CaptureTime

PAUSES = {"burst": 3.0, "time": 300.0}  # longest pause inside a group, in seconds
LONGEST_RUN = 30  # more consecutive numbers without a time are a numbered collection, not a burst
_SERIES = 10  # images with numbered names from which ndec mentions `--group-by video`
_NUMBER = re.compile(r"(.*?)([0-9]+)\Z", re.DOTALL)


@dataclass(frozen=True)
class ImagePlace:
    """Where an image is. address: unique among all images · folder: the same for images of one folder only · name: the
    file name without its ending · top: the first folder of its path below the source, empty for an image outside of
    all subfolders."""

    address: str
    folder: str
    name: str
    top: str = ""
    time: CaptureTime | None = None

    @property
    def series(self) -> tuple[str, str] | None:
        """The folder and the name without the number at its end; None for a name without a number."""
        found = _NUMBER.match(self.name)
        return found and (self.folder, found[1])

    @property
    def number(self) -> int:
        """The number at the end of the name; only where `series` is not None."""
        return int(self.name[len((self.series or ("", ""))[1]) :])


def digest(text: str) -> str:
    return sha256_bytes(text.encode("utf-8", "surrogateescape"))[:10]


def own_group(image_id: str, address: str) -> str:
    """The group of an image that is alone in it."""
    return f"{image_id}#{digest(address)}"


def find_groups(rule: str, places: Sequence[ImagePlace], pause: float = 0.0) -> list[str | None]:
    """The group of each image by one of the rules folder, path, video, burst and time; None: it is alone in its group.

    pause: longest pause inside a group of burst or time, in seconds; 0: PAUSES. The result does not depend on the order
    of the images. The rules are described in docs/sources.md.
    """
    if rule == "folder":
        return [f"folder/{_last(place.folder)}#{digest(place.folder)}" for place in places]
    if rule == "path":
        return [f"path/{_last(place.top)}#{digest(place.top)}" if place.top else None for place in places]
    if rule == "video":
        frames = Counter(place.series for place in places)
        return [_video(place) if place.series and frames[place.series] > 1 else None for place in places]
    edges = time_edges(places, pause or PAUSES[rule], one_camera=rule == "burst")
    if rule == "burst":
        edges += [edge for run in runs(places) if len(run) <= LONGEST_RUN for edge in itertools.pairwise(run)]
    return _named_components(rule, places, edges)


def runs(places: Sequence[ImagePlace]) -> list[list[int]]:
    """Rows of images without a time whose numbers follow each other in one series, two or more each."""
    series: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, place in enumerate(places):
        if place.time is None and place.series is not None:
            series[place.series].append(row)
    found = []
    for rows in series.values():
        rows.sort(key=lambda row: (places[row].number, places[row].address))
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or places[rows[end]].number - places[rows[end - 1]].number > 1:
                found.append(rows[start:end])
                start = end
    return [run for run in found if len(run) > 1]


def time_edges(places: Sequence[ImagePlace], pause: float, *, one_camera: bool) -> list[tuple[int, int]]:
    """Pairs of rows at most `pause` seconds apart that connect all such images; `one_camera`: only of equal cameras.

    Two times that state their offset from UTC are compared in UTC, others by the clock of the camera.
    """
    cameras: dict[str, list[int]] = defaultdict(list)
    for row, place in enumerate(places):
        if place.time is not None:
            cameras[place.time.camera if one_camera else ""].append(row)
    edges: list[tuple[int, int]] = []
    for rows in cameras.values():
        times = [time for row in rows if (time := places[row].time) is not None]
        wall = np.array([time.wall for time in times])
        utc = np.array([np.nan if time.utc is None else time.utc for time in times])
        edges += [(rows[i], rows[j]) for i, j in _close(wall, utc, pause + 1e-6)]
    return edges


def _close(wall: np.ndarray, utc: np.ndarray, pause: float) -> Iterable[tuple[int, int]]:
    zoned, plain = np.flatnonzero(~np.isnan(utc)), np.flatnonzero(np.isnan(utc))
    zoned, plain = zoned[np.argsort(utc[zoned], kind="stable")], plain[np.argsort(wall[plain], kind="stable")]
    for rows, clock in ((zoned, utc), (plain, wall)):
        near = np.flatnonzero(np.diff(clock[rows]) <= pause)
        yield from zip(rows[near].tolist(), rows[near + 1].tolist(), strict=True)
    after = np.searchsorted(wall[plain], wall[zoned])
    for place in (after - 1, after):  # the nearest time without offset on both sides
        there = np.flatnonzero((place >= 0) & (place < len(plain)))
        left, right = zoned[there], plain[place[there]]
        near = np.abs(wall[left] - wall[right]) <= pause
        yield from zip(left[near].tolist(), right[near].tolist(), strict=True)


def _named_components(rule: str, places: Sequence[ImagePlace], edges: Sequence[tuple[int, int]]) -> list[str | None]:
    """Connected images get one name, made from the first of them by address; None for a single image."""
    if not edges:
        return [None] * len(places)
    left, right = np.array(edges).T
    links = coo_array((np.ones(len(edges)), (left, right)), shape=(len(places), len(places)))
    component = connected_components(links, directed=False)[1].tolist()
    sizes, first = Counter(component), dict[int, ImagePlace]()
    for number, place in zip(component, places, strict=True):
        if number not in first or place.address < first[number].address:
            first[number] = place
    names = {n: f"{rule}/{first[n].name}#{digest(first[n].address)}" for n, size in sizes.items() if size > 1}
    return [names.get(number) for number in component]


def grouping_note(rule: str, places: Sequence[ImagePlace], groups: Sequence[str | None]) -> str:
    """One sentence: how many groups there are, the largest one, and the images whose time or number is unknown."""
    sizes = Counter(group for group in groups if group is not None)
    together = sum(sizes.values())
    note = f"grouped by {rule}: {number_of(len(sizes), 'group')} with {together:,} of {len(groups):,} images"
    if sizes:
        name, most = min(sizes.items(), key=lambda item: (-item[1], item[0]))
        note += f", the largest with {most:,} ({name.rpartition('#')[0]})"
    if sizes and (alone := len(groups) - together):
        note += f"; {alone:,} without a group"
    return "; ".join([note, *_unknown(rule, places)])


def _unknown(rule: str, places: Sequence[ImagePlace]) -> list[str]:
    named = sum(place.time is not None and place.time.named for place in places)
    timeless = [place for place in places if place.time is None]
    texts = []
    if rule in PAUSES:
        read = len(places) - len(timeless) - named
        counts = {"from EXIF": read, "from file names": named, "unknown": len(timeless)}
        texts.append("times: " + ", ".join(f"{count:,} {source}" for source, count in counts.items() if count))
    if rule == "burst" and timeless:
        numbered = [run for run in runs(places) if len(run) > LONGEST_RUN]
        if neither := sum(place.series is None for place in timeless):
            texts.append(f"{neither:,} {'has' if neither == 1 else 'have'} neither a time nor a number")
        if numbered:
            texts.append(
                f"{sum(map(len, numbered)):,} without a time are in runs of more than {LONGEST_RUN} consecutive "
                "numbers, which are no bursts: they stay alone (if they are frames: --group-by video)"
            )
    if rule == "video" and (without := sum(place.series is None for place in places)):
        texts.append(f"{without:,} have no number at the end of their name")
    if rule == "path" and (without := sum(not place.top for place in places)):
        texts.append(f"{without:,} are in no subfolder")
    return texts


def series_hint(places: Sequence[ImagePlace]) -> str:
    """A sentence about images that look like frames or shots of a series; empty where there are few."""
    series = Counter(place.series for place in places if place.series is not None)
    long = {key: count for key, count in series.items() if count >= _SERIES}
    if not long:
        return ""
    (folder, prefix), most = min(long.items(), key=lambda item: (-item[1], item[0]))
    return (
        f"{number_of(sum(long.values()), 'image has', 'images have')} numbered names in {len(long):,} "
        f"series (e.g. {most:,} × {prefix}NNN in "
        f"{_last(folder)}), and each image is its own group: if they are frames of a video or shots of a burst, give "
        "--group-by video (or burst, time, folder), so that training and test never share one"
    )


def _video(place: ImagePlace) -> str:
    folder, prefix = place.series or ("", "")
    shown = "/".join(part for part in (_last(folder), prefix.rstrip("-_. ")) if part)
    return f"video/{shown}#{digest(f'{folder}/{prefix}')}"


def _last(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2] or folder
