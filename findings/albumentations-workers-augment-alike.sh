#!/usr/bin/env bash
# albumentations: all workers draw the same augmentations, and in each epoch the same ones again
#
# Expected: the old trap of forked workers that share NumPy's random state is closed: torch seeds random, NumPy and itself
# in each worker, and albumentations reads one of them. Without a seed, no two pictures get the same edit.
#
# What happens: the library has generators of its own. Each Compose gets them when it is made, in the main process. Forked
# workers (DataLoader on Linux up to Python 3.13) inherit them as they stand, and the main process never moves them on.
# Three epochs with four workers make 600 pictures with 50 different edits: the n-th picture of each worker gets the n-th
# edit in every epoch. random.seed and np.random.seed in the worker change nothing. Workers started with spawn differ, and
# set_random_seed in each worker helps. 2.0.8 is the last release under the MIT licence; its successor albumentationsx
# asks torch which worker it is in.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  albumentations==2.0.8 albucore==0.0.24 opencv-python-headless==4.12.0.88 numpy==2.2.6

cat > epochs.py <<'EOF_PYTHON'
import multiprocessing
import random
from importlib.metadata import version

import albumentations as A
import numpy as np

GREY = np.full((8, 8, 3), 0.5, np.float32)
edit = A.Compose([A.RandomBrightnessContrast(brightness_limit=0.4, contrast_limit=0, p=1)])


def work(worker, mode, results):
    if mode == "global seeds":
        random.seed(worker)
        np.random.seed(worker)
    elif mode == "set_random_seed":
        edit.set_random_seed(worker)
    results.put([float(edit(image=GREY)["image"][0, 0, 0]) for _ in range(50)])


def edits(start, mode, epochs):
    """Brightness of each picture of each worker, epoch after epoch."""
    context, found = multiprocessing.get_context(start), []
    for epoch in range(epochs):
        results = context.Queue()
        workers = [context.Process(target=work, args=(10 * epoch + number, mode, results)) for number in range(4)]
        for worker in workers:
            worker.start()
        found += [value for _ in workers for value in results.get(timeout=300)]
        for worker in workers:
            worker.join()
    return found


if __name__ == "__main__":
    print(*(f"{name} {version(name)}" for name in ("albumentations", "numpy", "opencv-python-headless")))
    counts = {}
    for start, mode, epochs in (
        ("fork", "nothing", 3),
        ("fork", "global seeds", 3),
        ("fork", "set_random_seed", 3),
        ("spawn", "nothing", 1),
    ):
        found = edits(start, mode, epochs)
        counts[start, mode] = len(set(found))
        print(f"{start}, seeded in the worker: {mode}: {len(found)} pictures, {counts[start, mode]} different edits")
    assert counts["fork", "nothing"] == counts["fork", "global seeds"] == 50
    assert counts["fork", "set_random_seed"] > 500 and counts["spawn", "nothing"] > 150
EOF_PYTHON
NO_ALBUMENTATIONS_UPDATE=1 venv/bin/python epochs.py
