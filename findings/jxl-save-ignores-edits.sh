#!/usr/bin/env bash
# pillow-jxl-plugin: an edited picture that was opened from a JPEG file is saved without the edits
#
# Expected: save() writes the pixels of the picture, as for every other format: what was drawn
# is there, and a thumbnail is small.
#
# What happens: If the picture came from a JPEG file, save("a.jxl") reads that file again and packs its
# bytes without loss, whatever was done to the picture in place (ImageDraw, paste, putpixel, thumbnail).
# The warning speaks of "JPEG reconstruction", not of edits, and
# Python shows it once. With lossless_jpeg=False, or after copy(), the edits are saved.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check pillow-jxl-plugin==1.3.8 pillow==13.0.0

venv/bin/python - <<'EOF_PYTHON'
import warnings
from importlib.metadata import version

import pillow_jxl  # noqa: F401  registers the format
from PIL import Image, ImageDraw

print("pillow-jxl-plugin", version("pillow-jxl-plugin"), "pillow", version("pillow"))
Image.new("RGB", (64, 64), "white").save("photo.jpg", quality=95)
edits = {
    "ImageDraw": lambda picture: ImageDraw.Draw(picture).rectangle((0, 0, 63, 63), fill="black"),
    "paste": lambda picture: picture.paste((0, 0, 0), (0, 0, 64, 64)),
    "putpixel": lambda picture: picture.putpixel((0, 0), (0, 0, 0)),
    "thumbnail": lambda picture: picture.thumbnail((16, 16)),
}


def saved(edit, name, **options):
    """Size and first pixel of the edited picture, and of the file that it is saved to."""
    with Image.open("photo.jpg") as picture:
        edit(picture)
        made = picture.copy() if options.pop("copied", False) else picture
        made.save(name, **options)
        before = picture.size, picture.getpixel((0, 0))
    with Image.open(name) as again:
        return before, (again.size, again.convert("RGB").getpixel((0, 0)))


for name, edit in edits.items():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        edited, written = saved(edit, "photo.jxl")
    print(f"{name}: the picture is {edited}, the file {written}; warning: {str(said[0].message)[:60]} …")
    assert written == ((64, 64), (255, 255, 255)) != edited  # the photo as it was
    assert saved(edit, "photo.png")[0] == saved(edit, "photo.png")[1]
    for options in ({"lossless_jpeg": False}, {"copied": True}):
        edited, written = saved(edit, "photo.jxl", lossless=True, **options)
        assert written == edited, options
EOF_PYTHON
