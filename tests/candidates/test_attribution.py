from __future__ import annotations

import pytest

from ndec_builder.candidates.attribution import equal_or_unknown, flickr_photo, flickr_user, read_attribution, source_of
from ndec_builder.core.errors import NdecError


@pytest.mark.parametrize(
    ("url", "photo"),
    [
        ("https://c1.staticflickr.com/5/4129/5215831864_46f356962f_o.jpg", "5215831864"),  # as in OpenImages
        ("https://farm4.staticflickr.com/3791/9999999999_abcdef0123_z.jpg", "9999999999"),
        ("http://farm1.static.flickr.com/1/123_0a1b2c.jpg", "123"),
        ("https://live.staticflickr.com/65535/50000000001_0123456789.jpg", "50000000001"),
        ("https://www.flickr.com/photos/brokentaco/5215831864", "5215831864"),
        ("http://flickr.com/photos/12345678@N00/5215831864/in/pool-x", "5215831864"),
        ("https://www.flickr.com/photos/brokentaco/", None),
        ("https://www.flickr.com/photos/brokentaco/sets/721576", None),
        ("https://example.com/photos/x/5215831864", None),
        ("https://notflickr.com/photos/x/5215831864", None),
        ("https://flickr.com.example.org/photos/x/5215831864", None),
        ("5215831864", None),
        ("http://[broken", None),
        ("", None),
    ],
)
def test_photo_ids(url, photo):
    assert flickr_photo(url) == photo


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("https://www.flickr.com/people/BrokenTaco/", "brokentaco"),
        ("https://www.flickr.com/photos/brokentaco/5215831864", "brokentaco"),
        ("https://www.flickr.com/people/12345678%40N00/", "12345678@n00"),
        ("https://c1.staticflickr.com/5/4129/5215831864_46f356962f_o.jpg", None),
        ("https://example.com/people/brokentaco", None),
    ],
)
def test_users(url, user):
    assert flickr_user(url) == user


def test_source_prefers_the_table_of_the_user_and_users_to_names():
    row = {
        "original_url": "https://c1.staticflickr.com/5/4129/11_46f356962f_o.jpg",
        "landing_url": "https://www.flickr.com/photos/ann/11",
        "author_url": "https://www.flickr.com/people/ann/",
        "author": "Ann",
        "title": None,
    }
    assert source_of(row).photo == "11" and source_of(row).author == "flickr:ann"
    other = source_of(row, {"photo_id": "22", "author": "Ann"})
    assert other.photo == "22" and other.author == "author:ann"
    assert source_of({"author": " Bob "}) == source_of({"author": "bob"})
    assert source_of({"author_url": "https://example.org/Bob/"}).author == "author_url:https://example.org/bob"
    assert source_of({"photo_id": "no number"}).photo is None
    assert source_of({}).photo is None and source_of({}).author is None
    assert (
        equal_or_unknown("1", "1"),
        equal_or_unknown("1", "2"),
        equal_or_unknown(None, "1"),
        equal_or_unknown(None, None),
    ) == (True, False, None, None)


def test_reading(tmp_path):
    path = tmp_path / "yfcc.csv"
    path.write_text(
        '\ufeffImage_ID,Photo_id,title,author_url\nR1.jpg,11,"a, b",\nR2,,x,https://www.flickr.com/people/a/\n\nR2,,y,'
        "https://www.flickr.com/people/a/\n",
        "utf-8",
    )
    assert read_attribution(path) == {
        ("", "R1"): {"photo_id": "11"},
        ("", "R2"): {"author_url": "https://www.flickr.com/people/a/"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"has the columns \['a', 'b'\]; expected image_id"),
        ("image_id,title\n1,2\n", "at least one of photo_id"),
        ("", r"has the columns \[\]"),
        ("image_id,photo_id\n", "has no rows"),
        ("image_id,photo_id\nR1,1\nR1,2\n", "line 3 of .* second, different row of image 'R1'"),
        ("image_id,photo_id\nR1,1,2\n", "line 2 of .* has 3 cells, its header 2"),
        (b"image_id,photo_id\nR\xff,1\n", "must be a csv in UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(NdecError, match=message):
        read_attribution(path)
