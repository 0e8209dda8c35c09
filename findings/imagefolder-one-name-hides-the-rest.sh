#!/usr/bin/env bash
# datasets: one picture called test-card.png hides all other pictures of an image folder
#
# Expected: load_dataset("imagefolder") loads every picture of a folder without subfolders into the
# split train.
#
# What happens: datasets searches all paths for words such as test, dev, eval and validation. If a
# single name contains one, it treats the folder as a dataset with splits. The result has a split
# test with one picture; the other four are not loaded, and no warning says so. A class folder
# called "evaluation" does the same and takes the labels with it.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0

venv/bin/python - <<'EOF'
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path("home").resolve())
import datasets
from PIL import Image

datasets.disable_progress_bars()
print("datasets", datasets.__version__)


def load(folder, names):
    for name in names:
        path = Path(folder, f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    loaded = datasets.load_dataset("imagefolder", data_dir=folder)
    print(folder, names, "->", {split: (len(rows), list(rows.features)) for split, rows in loaded.items()})
    return {split: (len(rows), list(rows.features)) for split, rows in loaded.items()}


assert load("plain", ["beach", "cat", "dog", "tree", "card"]) == {"train": (5, ["image"])}
assert load("photos", ["beach", "cat", "dog", "tree", "test-card"]) == {"test": (1, ["image"])}
assert load("classes", ["a/1", "b/1", "c/1"]) == {"train": (3, ["image", "label"])}
assert load("others", ["a/1", "b/1", "evaluation/1"]) == {"test": (1, ["image"])}
EOF
