#!/usr/bin/env bash
# pillow-jxl-plugin: save(icc_profile=…) is ignored, and the pixels are declared to be sRGB
#
# Expected: A colour profile that is given to save() is stored, as Pillow does for PNG, WebP, AVIF, JPEG and TIFF. Or
# it is refused.
#
# What happens: The profile is dropped without a word, and the file says that its unchanged numbers are sRGB. Every
# photo of a phone or camera in Display P3 or Adobe RGB changes its colours. The option use_original_profile
# does not help. Convert to sRGB first, with ImageCms.profileToProfile.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check pillow-jxl-plugin==1.3.8 pillow==13.0.0

venv/bin/python - <<'EOF_PYTHON'
import io
import struct
import warnings
from importlib.metadata import version

import pillow_jxl  # noqa: F401  registers the format
from PIL import Image, ImageCms

print("pillow-jxl-plugin", version("pillow-jxl-plugin"), "pillow", version("pillow"))
warnings.simplefilter("error")  # a warning would end the script
SRGB = ImageCms.createProfile("sRGB")

# sRGB with red and green exchanged: whoever applies the profile sees green where the numbers say red
profile = bytearray(ImageCms.ImageCmsProfile(SRGB).tobytes())
tags = {bytes(profile[at : at + 4]): at + 4 for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)}
red, green = (bytes(profile[tags[name] : tags[name] + 8]) for name in (b"rXYZ", b"gXYZ"))
profile[tags[b"rXYZ"] : tags[b"rXYZ"] + 8], profile[tags[b"gXYZ"] : tags[b"gXYZ"] + 8] = green, red


def shown(name, **options):
    """The colour of a saved red picture on an sRGB screen, by the profile in the file."""
    Image.new("RGB", (64, 64), (200, 0, 0)).save(name, icc_profile=bytes(profile), **options)
    with Image.open(name) as picture:
        own = picture.info.get("icc_profile")
        assert own, f"{name} has no profile"
        source = ImageCms.ImageCmsProfile(io.BytesIO(own))
        return ImageCms.profileToProfile(picture.convert("RGB"), source, SRGB, outputMode="RGB").getpixel((32, 32))


for name in ("a.png", "a.webp", "a.avif", "a.jpg", "a.tif"):
    colour = shown(name)
    print(name, colour)
    assert colour[1] > 180 and colour[0] < 60  # green
for options in ({}, {"lossless": True}, {"lossless": True, "use_original_profile": True}):
    colour = shown("a.jxl", **options)
    print("a.jxl", options, colour)
    assert colour[0] > 180 and colour[1] < 60  # red: the profile is gone
EOF_PYTHON
