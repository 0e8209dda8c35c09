#!/usr/bin/env bash
# datasets: a WebDataset shard loses every kind of file that its first five samples do not have
#
# Expected: load_dataset("webdataset") finds the columns of a tar of jpg pictures, some png pictures
# and some json sidecars: jpg, png, json.
#
# What happens: The columns come from the first five samples. Later samples still count as rows, but
# members with other endings are dropped without a message: here three pictures of ten and all
# licences. The row count is right, so a check of the count passes.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0

venv/bin/python - <<'EOF'
import io
import json
import os
import tarfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path("home").resolve())
import datasets
from PIL import Image

datasets.disable_progress_bars()


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


with tarfile.open("shard.tar", "w") as tar:
    for i in range(10):
        ending, kind = ("jpg", "JPEG") if i < 7 else ("png", "PNG")
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(picture, kind)
        add(tar, f"{i:04d}.{ending}", picture.getvalue())
        if i >= 7:
            add(tar, f"{i:04d}.json", json.dumps({"license": "CC0"}).encode())
rows = datasets.load_dataset("webdataset", data_files="shard.tar", split="train")
pictures = sum(row["jpg"] is not None for row in rows)
print("datasets", datasets.__version__)
print("columns", list(rows.features), "rows", len(rows), "with a picture", pictures)
assert list(rows.features) == ["jpg", "__key__", "__url__"] and len(rows) == 10 and pictures == 7
EOF
