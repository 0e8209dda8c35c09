#!/usr/bin/env bash
# webdataset: two pictures whose names hold a number such as 0.91 become one sample
#
# Expected: A tar with three jpg pictures gives three samples with the field "jpg".
#
# What happens: The key of a member ends at the first dot of its base name. crop_0.91_a.jpg and
# crop_0.92_b.jpg share the key "crop_0" and become a single sample with the fields "91_a.jpg" and
# "92_b.jpg". There is no field "jpg", so a pipeline that selects jpg drops them, and nothing warns.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check webdataset==1.0.2 pillow==13.0.0

venv/bin/python - <<'EOF'
import io
import tarfile
from importlib.metadata import version

import webdataset as wds
from PIL import Image

picture = io.BytesIO()
Image.new("RGB", (8, 8)).save(picture, "JPEG")
with tarfile.open("shard.tar", "w") as tar:
    for name in ("crop_0.91_a.jpg", "crop_0.92_b.jpg", "plain.jpg"):
        member = tarfile.TarInfo(name)
        member.size = picture.tell()
        tar.addfile(member, io.BytesIO(picture.getvalue()))
print("webdataset", version("webdataset"))
samples = list(wds.WebDataset("shard.tar", shardshuffle=False))
for sample in samples:
    print(sample["__key__"], [field for field in sample if not field.startswith("__")])
assert [sample["__key__"] for sample in samples] == ["crop_0", "plain"]
assert {"91_a.jpg", "92_b.jpg"} <= samples[0].keys() and "jpg" not in samples[0]
EOF
