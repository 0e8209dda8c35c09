"""`--group-by`: which images form a group, for any order of the files, and no group by equal names."""

from __future__ import annotations

import datetime
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ndec_builder.core.errors import UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.capture_times import CaptureTime, capture_time, time_in_name
from ndec_builder.sources.grouping import LONGEST_RUN, ImagePlace, find_groups
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.ingesting import Ingested, picture, write_tar

NOON = datetime.datetime(2024, 5, 1, 12, 0, 0)


def photo(path: Path, seconds: float | None, *, offset: str = "", camera: str = "X1", seed: int = 0) -> Path:
    """A JPEG whose EXIF says that it was taken `seconds` after noon; None: without EXIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if seconds is not None:
        exif[0x0110] = camera
        details = exif.get_ifd(0x8769)
        moment = NOON + datetime.timedelta(seconds=seconds)
        details[0x9003], details[0x9291] = moment.strftime("%Y:%m:%d %H:%M:%S"), f"{moment.microsecond // 10_000:02d}"
        if offset:
            details[0x9011] = offset
    path.write_bytes(picture(seed, exif=exif))
    return path


def grouped(found: Ingested) -> set[frozenset[str]]:
    """The groups with two or more images."""
    groups = defaultdict(set)
    for image_id, group in found.column("group").items():
        groups[group].add(image_id)
    return {frozenset(ids) for ids in groups.values() if len(ids) > 1}


def sets(*groups: str) -> set[frozenset[str]]:
    return {frozenset(group.split()) for group in groups}


# --- the rules, from files to the images table


def test_a_burst_is_within_seconds_and_of_one_camera(tmp_path: Path) -> None:
    for name, seconds, camera in (("a", 0, "X1"), ("b", 2.5, "X1"), ("c", 5.5, "X1"), ("d", 9, "X1"), ("e", 1, "Z")):
        photo(tmp_path / "in" / f"{name}.jpg", seconds, camera=camera)
    found = Ingested(tmp_path, tmp_path / "in", group_by="burst")
    assert grouped(found) == sets("a b c")  # 2.5 and 3.0 s apart, then 3.5; e is of another camera
    assert "1 group with 3 of 5 images, the largest with 3 (burst/a); 2 without a group" in found.notes
    assert "times: 5 from EXIF" in found.notes


def test_a_longer_pause_can_be_given(tmp_path: Path) -> None:
    for name, seconds in (("a", 0), ("b", 20), ("c", 50)):
        photo(tmp_path / "in" / f"{name}.jpg", seconds)
    assert grouped(Ingested(tmp_path, tmp_path / "in", group_by="burst", group_pause=20)) == sets("a b")
    assert grouped(Ingested(tmp_path, tmp_path / "in", group_by="time")) == sets("a b c")


def test_without_times_a_burst_has_consecutive_numbers(tmp_path: Path) -> None:
    for name in ("IMG_0008", "IMG_0009", "IMG_0011", "DSC_0010", "logo"):
        photo(tmp_path / "in" / f"{name}.jpg", None)
    photo(tmp_path / "in" / "IMG_0010.jpg", 0)  # with a time, so its number does not count
    found = Ingested(tmp_path, tmp_path / "in", group_by="burst")
    assert grouped(found) == sets("IMG_0008 IMG_0009")
    assert "times: 1 from EXIF, 5 unknown; 1 has neither a time nor a number" in found.notes


def test_a_numbered_collection_is_no_burst(tmp_path: Path) -> None:
    for number in range(LONGEST_RUN + 1):
        photo(tmp_path / "in" / f"item{number}.jpg", None)
    found = Ingested(tmp_path, tmp_path / "in", group_by="burst", look="header")
    assert grouped(found) == set()
    assert f"{LONGEST_RUN + 1} without a time are in runs of more than {LONGEST_RUN} consecutive numbers" in found.notes


def test_numbers_count_within_one_folder(tmp_path: Path) -> None:
    for name in ("x/IMG_1", "y/IMG_2", "y/IMG_3"):
        photo(tmp_path / "in" / f"{name}.jpg", None)
    assert grouped(Ingested(tmp_path, tmp_path / "in", group_by="burst")) == sets("IMG_2 IMG_3")


def test_frames_of_a_video(tmp_path: Path) -> None:
    for name in ("cam/a_000001", "cam/a_000250", "cam/b_1", "frames/0001", "frames/0002", "cam/cover"):
        photo(tmp_path / "in" / f"{name}.jpg", None)
    found = Ingested(tmp_path, tmp_path / "in", group_by="video")
    assert grouped(found) == sets("a_000001 a_000250", "0001 0002")
    assert {group.partition("#")[0] for group in found.column("group").values()} == {
        "video/cam/a", "video/frames", "b_1", "cover",
    }  # fmt: skip
    assert "1 have no number at the end of their name" in found.notes


def test_folders_are_told_apart_by_their_path(tmp_path: Path) -> None:
    for name in ("a/cats/1", "b/cats/2", "b/cats/3", "b/4", "5"):
        photo(tmp_path / "in" / f"{name}.jpg", None)
    assert grouped(Ingested(tmp_path, tmp_path / "in", group_by="folder")) == sets("2 3")
    found = Ingested(tmp_path, tmp_path / "in", group_by="path")
    assert grouped(found) == sets("2 3 4")
    assert "1 are in no subfolder" in found.notes


def test_folders_inside_a_tar(tmp_path: Path) -> None:
    members = {f"{name}.jpg": picture(0) for name in ("x/a", "x/b", "y/c", "y/z/d")}
    found = Ingested(tmp_path, write_tar(tmp_path / "t.tar", members), group_by="folder")
    assert grouped(found) == sets("a b")
    assert grouped(Ingested(tmp_path, tmp_path / "t.tar", group_by="path")) == sets("a b", "c d")


def test_numbered_names_are_pointed_out(tmp_path: Path) -> None:
    for number in range(12):
        photo(tmp_path / "in" / "clip" / f"frame_{number:04d}.jpg", None)
    found = Ingested(tmp_path, tmp_path / "in", look="header")
    assert grouped(found) == set()
    assert "12 images have numbered names in 1 series (e.g. 12 × frame_NNN in clip)" in found.notes
    assert "numbered names" not in Ingested(tmp_path, tmp_path / "in", look="header", group_by="none").notes


# --- times


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("IMG_20240501_120005", 5), ("PXL_20240501_120005123", 5.123), ("2024-05-01 12.00.05", 5),
        ("00001IMG_00001_BURST20240501120005", 5), ("Screenshot_2024-05-01-12-00-05-99_ab", 5),
        ("IMG-20240501-WA0001", None), ("DSC_0001", None), ("20241301_120000", None), ("120240501120005", None),
    ],
)  # fmt: skip
def test_times_in_names(name: str, seconds: float | None) -> None:
    found = time_in_name(name)
    noon = (NOON - datetime.datetime(1970, 1, 1)).total_seconds()
    assert (found and pytest.approx(found.wall - noon)) == seconds


def test_exif_counts_before_the_name(tmp_path: Path) -> None:
    path = photo(tmp_path / "IMG_20200101_000000.jpg", 5.25, offset="+02:00")
    found = capture_time(str(path), path.stem)
    assert found is not None
    assert datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=found.wall) == NOON.replace(
        second=5, microsecond=250_000
    )
    assert (found.offset, found.camera, found.named) == (7200, "X1", False)


def test_the_same_moment_in_two_time_zones(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "berlin.jpg", 7200, offset="+02:00")
    photo(tmp_path / "in" / "london.jpg", 3601, offset="+01:00")
    photo(tmp_path / "in" / "utc.jpg", 7200, offset="+00:00")  # two hours later
    photo(tmp_path / "in" / "plain.jpg", 7202)  # compared by the clock of the camera
    assert grouped(Ingested(tmp_path, tmp_path / "in", group_by="burst")) == sets("berlin london plain utc")
    (tmp_path / "in" / "plain.jpg").unlink()
    assert grouped(Ingested(tmp_path, tmp_path / "in", group_by="burst")) == sets("berlin london")


@pytest.mark.parametrize("value", ["0000:00:00 00:00:00", "yesterday", "2024:02:30 10:00:00", b"\xff\xfe"])
def test_an_impossible_time_is_unknown(tmp_path: Path, value: Any) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = value
    (tmp_path / "a.jpg").write_bytes(picture(0, exif=exif))
    assert capture_time(str(tmp_path / "a.jpg"), "a") is None


def test_a_broken_file_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert capture_time(str(tmp_path / "a.jpg"), "a") is None


# --- equal names, and groups that really are shared


def roles(tmp_path: Path, pool: dict[str, Any], reference: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """image_id → group of the folders p/shots (pool) and r/shots (reference)."""
    root = tmp_path / "ws"
    run(IngestConfig(root, "pool", tmp_path / "p" / "shots", **pool))
    run(IngestConfig(root, "reference", tmp_path / "r" / "shots", **reference))
    tables = [Workspace(root).read_images(role).to_pylist() for role in ("pool", "reference")]
    first, second = ({row["image_id"]: row["group"] for row in table} for table in tables)
    return first, second


@pytest.mark.parametrize("rule", ["auto", "none", "folder", "path", "video", "burst", "time"])
def test_equal_names_in_two_roles_share_no_group(tmp_path: Path, rule: str) -> None:
    for side in "pr":
        for name in ("cats/frame_0001", "cats/frame_0002", "0001"):
            photo(tmp_path / side / "shots" / f"{name}.jpg", None, seed=ord(side))
    pool, reference = roles(tmp_path, {"group_by": rule}, {"group_by": rule})
    assert list(pool) == list(reference)
    assert not set(pool.values()) & set(reference.values())


def test_the_same_folder_in_two_roles_has_the_same_groups(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / "in" / f"a{number}.jpg", number)
    for role in ("pool", "reference"):
        run(IngestConfig(tmp_path / "ws", role, tmp_path / "in", group_by="burst"))
    tables = [Workspace(tmp_path / "ws").read_images(role)["group"] for role in ("pool", "reference")]
    assert tables[0].equals(tables[1])


def test_one_burst_over_two_folders(tmp_path: Path) -> None:
    for name, seconds in (("p/shots/1", 0), ("r/shots/2", 2), ("p/shots/3", 4), ("r/shots/4", 60)):
        photo(tmp_path / f"{name}.jpg", seconds)
    both = [{"group_by": "burst", "group_with": (tmp_path / side / "shots",)} for side in "rp"]
    pool, reference = roles(tmp_path, *both)
    assert pool["1"] == pool["3"] == reference["2"] != reference["4"]
    pool, reference = roles(tmp_path, {"group_by": "burst"}, {"group_by": "burst"})
    assert pool["1"] != pool["3"]  # 4 s apart without the one between them


def test_one_video_over_two_folders(tmp_path: Path) -> None:
    for name in ("p/shots/clip/f_1", "r/shots/clip/f_2", "r/shots/other/f_2"):
        photo(tmp_path / f"{name}.jpg", None)
    both = [{"group_by": "video", "group_with": (tmp_path / side / "shots",), "id": "path"} for side in "rp"]
    pool, reference = roles(tmp_path, *both)
    assert pool["clip/f_1"] == reference["clip/f_2"] != reference["other/f_2"]


def test_group_with_needs_folders(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.jpg", None)
    (tmp_path / "l.txt").write_text("in/a.jpg\n")
    with pytest.raises(UsageError, match=r"--group-with joins folders; .* is read as 'list'"):
        Ingested(tmp_path, tmp_path / "l.txt", group_by="video", group_with=(tmp_path / "in",))


def test_kinds_that_define_groups_refuse_a_rule(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "R000001.jpg", None)
    with pytest.raises(UsageError, match="group_by is 'burst', but the files of kind 'disc21' define the groups"):
        Ingested(tmp_path, tmp_path / "in", kind="disc21", group_by="burst")


def test_groups_stay_when_everything_is_moved(tmp_path: Path) -> None:
    for place in ("here", "there"):
        for name in ("a/1", "a/2", "3"):
            photo(tmp_path / place / "in" / f"{name}.jpg", None)
    found = [Ingested(tmp_path / p, tmp_path / p / "in", group_by="folder").column("group") for p in ("here", "there")]
    assert found[0] == found[1]


# --- properties

_times = st.none() | st.builds(
    CaptureTime,
    st.integers(0, 40).map(float),
    st.sampled_from([None, None, 0.0, 10.0]),
    st.sampled_from(["", "X"]),
)
_places = st.lists(
    st.tuples(st.sampled_from(["f", "g"]), st.sampled_from(["a", "b_", ""]), st.integers(0, 12), _times), max_size=14
).map(
    lambda rows: [
        ImagePlace(f"{folder}/{row}", folder, f"{prefix}{number}" if number else prefix, folder, time)
        for row, (folder, prefix, number, time) in enumerate(rows)
    ]
)


@settings(max_examples=60, deadline=None)
@given(_places, st.randoms(use_true_random=False), st.sampled_from(["folder", "path", "video", "burst", "time"]))
def test_the_order_of_the_files_does_not_matter(places: list[ImagePlace], random: Any, rule: str) -> None:
    shuffled = random.sample(places, len(places))
    names = dict(zip([place.address for place in shuffled], find_groups(rule, shuffled), strict=True))
    assert [names[place.address] for place in places] == find_groups(rule, places)


@settings(max_examples=60, deadline=None)
@given(_places, st.integers(1, 5))
def test_groups_by_time_are_what_short_pauses_connect(places: list[ImagePlace], pause: int) -> None:
    """Against all pairs: two times are close in UTC if both state their offset, else by the clock."""

    def close(a: CaptureTime, b: CaptureTime) -> bool:
        if a.offset is not None and b.offset is not None:
            return abs((a.wall - a.offset) - (b.wall - b.offset)) <= pause
        return abs(a.wall - b.wall) <= pause

    members = [{row} for row in range(len(places))]
    for i, a in enumerate(places):
        for j, b in enumerate(places[:i]):
            if a.time and b.time and close(a.time, b.time) and members[i] is not members[j]:
                members[i] |= members[j]
                for row in members[i]:
                    members[row] = members[i]
    names = find_groups("time", places, float(pause))
    for i, name in enumerate(names):
        assert members[i] == ({i} if name is None else {j for j, other in enumerate(names) if other == name})
