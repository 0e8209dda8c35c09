#!/usr/bin/env bash
# datasets: a map that only looks at the pictures stores them again as JPEG of quality 75
#
# Expected: ds.map(lambda row: {"width": row["image"].width}) adds a column. The pictures stay the bytes that they were:
# the function does not return them.
#
# What happens: The function's first look at row["image"] decodes the picture, and everything that was decoded is encoded
# again for the new dataset, with Pillow's default for its format. A JPEG of quality 95 loses half of its bytes, and
# each further map that looks at it makes it worse. A map that does not look keeps the bytes. If the dataset came from a
# folder, the stored path is kept instead: nothing is lost then, except what the function itself drew into the picture,
# or its thumbnail(). There is no warning. Hashes and descriptors computed before and after such a map differ.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 numpy==2.4.6

HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 venv/bin/python - <<'EOF'
import hashlib
import importlib.metadata
import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

for name in ("datasets", "pillow"):
    print(name, importlib.metadata.version(name))
datasets.disable_progress_bars()
coarse = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
out = io.BytesIO()
Image.fromarray(coarse).resize((384, 384), Image.Resampling.BICUBIC).save(out, "JPEG", quality=95)
rows = {"image": [{"bytes": out.getvalue(), "path": None}]}
original = datasets.Dataset.from_dict(rows, datasets.Features({"image": datasets.Image()}))


def stored(dataset):
    return dataset.cast_column("image", datasets.Image(decode=False))[0]["image"]


def pixels(dataset):
    return np.asarray(dataset[0]["image"], float)


def look(row):
    return {"width": row["image"].width}


def look_away(row):
    return {"width": 384}


def shrink(row):
    row["image"].thumbnail((32, 32))
    return row


def report(name, dataset):
    data, worst = stored(dataset)["bytes"], np.abs(pixels(dataset) - pixels(original)).max()
    print(f"{name:12} {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:8]}, largest change of a pixel {worst:.0f}")
    return len(data), worst


size, _ = report("original", original)
assert report("look away", original.map(look_away)) == (size, 0)
smaller, change = report("look", original.map(look))
assert smaller < 0.7 * size and change > 5

Path("pictures").mkdir()
Path("pictures/a.jpg").write_bytes(out.getvalue())
in_folder = datasets.load_dataset("imagefolder", data_dir="pictures", split="train")
sizes = {name: data.map(shrink)[0]["image"].size for name, data in (("bytes", original), ("folder", in_folder))}
print("after a map with thumbnail((32, 32)):", sizes)
assert sizes == {"bytes": (32, 32), "folder": (384, 384)}
EOF
