#!/usr/bin/env bash
# datasets: to_parquet of an image folder writes absolute paths, save_to_disk writes the pictures
#
# Expected: A dataset with an Image column, written to parquet, can be copied to another machine. So
# can one from save_to_disk.
#
# What happens: to_parquet writes {bytes: null, path: absolute path on this machine}: a small file
# that loads on every machine and fails there at the first picture. save_to_disk embeds the bytes of
# the same dataset.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 pyarrow==26.0.1

venv/bin/python - <<'EOF'
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path("home").resolve())
import datasets
import pyarrow.parquet as pq
from PIL import Image

datasets.disable_progress_bars()
Path("photos").mkdir()
for name in ("a", "b"):
    Image.effect_noise((64, 64), 50).save(f"photos/{name}.png")
rows = datasets.load_dataset("imagefolder", data_dir="photos", split="train")
rows.to_parquet("out.parquet")
rows.save_to_disk("out")
in_parquet = pq.read_table("out.parquet").to_pylist()[0]["image"]
on_disk = datasets.load_from_disk("out").cast_column("image", datasets.Image(decode=False))[0]["image"]
print("datasets", datasets.__version__)
for name, cell in {"to_parquet": in_parquet, "save_to_disk": on_disk}.items():
    held = "no bytes" if cell["bytes"] is None else f"{len(cell['bytes'])} bytes"
    print(f"{name}: {held}, path is absolute: {Path(cell['path']).is_absolute()}")
assert in_parquet["bytes"] is None and Path(in_parquet["path"]).is_absolute()
assert on_disk["bytes"] == Path("photos/a.png").read_bytes() and on_disk["path"] == "a.png"
EOF
