"""Frames: cuts are found, kept frames differ, frames of one shot are some time apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.demo.corpus.video_frames import FRAME_INTERVAL, MOST, glance, read_frames, visibly_different


def test_cuts_separate_shots_and_frames_are_apart(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "v.avi", (1, 2, 3), frames=(30, 20, 1))
    frames = read_frames(tmp_path / "v.avi")
    assert sorted({frame.shot for frame in frames}) == [0, 1, 2]
    assert all((frame.seconds < 3) == (frame.shot == 0) for frame in frames)
    for a, b in itertools.combinations(frames, 2):
        if a.shot == b.shot:
            assert abs(a.seconds - b.seconds) >= FRAME_INTERVAL - 1e-9
            assert visibly_different(glance(a.image), glance(b.image))


def test_a_still_shot_gives_one_frame(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "v.avi", (1,), frames=40, step=0)
    assert len(read_frames(tmp_path / "v.avi")) == 1


@pytest.mark.slow
def test_a_long_shot_is_capped_and_spread(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "v.avi", (1,), frames=130, step=1)
    frames = read_frames(tmp_path / "v.avi")
    assert len(frames) <= MOST
    assert frames[0].seconds == 0 and frames[-1].seconds > 8


def test_black_frames_are_left_out(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "v.avi", (None, 1), frames=(10, 5))
    assert [frame.shot for frame in read_frames(tmp_path / "v.avi")] == [1]


def test_a_file_that_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "v.avi").write_bytes(b"no video at all")
    with pytest.raises(NdecError, match="no frame that can be decoded"):
        read_frames(tmp_path / "v.avi")
