"""What only JPEG has: EXIF orientation, scans, a smaller size while decoding, further pictures in the file."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from faults.zoo_pictures import scan_bomb
from ndec_builder.core.decode import DecodeError, decode, read_header
from support.odd_pictures import encoded
from support.pictures import scene


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_exif_orientations_as_pillow_turns_them(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(5, (96, 64)), "JPEG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(np.asarray(decode(data)), expected)
    header = read_header(data)
    assert (header.height, header.width) == expected.shape[:2]
    reduced = decode(data, target=lambda width, height: (width // 2, height // 2))
    assert reduced.size == (expected.shape[1] // 2, expected.shape[0] // 2)


def test_a_jpeg_is_scaled_down_while_it_is_decoded_never_below_the_target() -> None:
    picture = scene(6, (640, 480))
    data = encoded(picture, "JPEG", quality=95)
    sizes = {side: decode(data, target=lambda w, h, side=side: (side, side)).size for side in (480, 240, 100, 7)}
    assert sizes == {480: (640, 480), 240: (320, 240), 100: (160, 120), 7: (80, 60)}
    odd = encoded(picture.crop((0, 0, 641, 479)), "JPEG")
    numbers = [
        decode(odd, turn, target=lambda w, h, side=side: (side, side)).info.get("scaled_down")
        for turn, side in ((0, 479), (90, 200), (180, 100), (270, 7))
    ]
    assert numbers == [None, 2, 4, 8]
    small = np.asarray(decode(data, target=lambda w, h: (160, 120)), float)
    expected = np.asarray(picture.resize((160, 120), Image.Resampling.BOX), float)
    assert np.abs(small - expected).mean() < 3
    assert decode(encoded(picture, "PNG"), target=lambda w, h: (7, 7)).size == (640, 480)  # only JPEG can


def test_a_progressive_jpeg_is_whole_or_a_reject() -> None:
    data = encoded(scene(7, (200, 160)), "JPEG", progressive=True)
    assert decode(data).size == (200, 160)
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(DecodeError, match="cannot decode"):
            decode(data[: int(len(data) * share)], target=lambda w, h: (50, 50))


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan costs a pass over all blocks and a few bytes: 50 kB would keep a core busy for minutes."""

    def never(_: Image.Image) -> None:
        raise AssertionError("decoded")

    data = scan_bomb(640, 480, 3_000)
    assert len(data) < 100_000
    with monkeypatch.context() as patch, pytest.raises(DecodeError, match=r"too slow to decode: 30\d\d scans"):
        patch.setattr("PIL.ImageFile.ImageFile.load", never)
        decode(data)
    decode(scan_bomb(640, 480, 50))  # what an odd encoder may write is taken


def test_scans_behind_the_picture_and_in_its_thumbnail_do_not_count() -> None:
    photo = encoded(scene(8, (640, 480)), "JPEG")
    video = b"\x00\x00\x00\x18ftypmp42" + b"\xff\xda\x00\x08" * 115  # a motion photo: the clip follows the picture
    assert np.array_equal(np.asarray(decode(photo + video)), np.asarray(decode(photo)))
    segment = b"\xff\xda\x00\x08" * 110  # as the scans of a thumbnail in EXIF
    with_thumbnail = photo[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + photo[2:]
    assert np.array_equal(np.asarray(decode(with_thumbnail)), np.asarray(decode(photo)))
    behind_comment = photo[:2] + b"\xff\xfe\x00\x06\xff\xda\xff\xd9" + scan_bomb(640, 480, 3_000)[2:]
    with pytest.raises(DecodeError, match=r"too slow to decode: 30\d\d scans"):  # a comment is no end of the picture
        decode(behind_comment)


def test_a_jpeg_with_several_pictures_is_a_jpeg() -> None:
    first, second = scene(1, (64, 48)), scene(2, (64, 48))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=90)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert read_header(data).format == "JPEG"
    for target in (None, lambda w, h: (w // 2, h // 2)):
        alone = decode(encoded(first, "JPEG", quality=90), target=target)
        assert np.array_equal(np.asarray(decode(data, target=target)), np.asarray(alone))
