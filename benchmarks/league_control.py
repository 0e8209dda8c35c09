"""Do the peers reach their own published figures? The five plain edits of imagededup's benchmark, without look-alikes.

    python benchmarks/league_control.py WORKSPACE > benchmarks/results/league_control.md

imagededup publishes recall and precision of pairs on UKBench photos: each original with a random crop of 7/8 of its
sides, both flips, a rotation by 25°, and a resize to a square. Here the originals are references of the demo, one per
group, with the same five edits, and the same count: every unordered pair of different pictures.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import machine
from PIL import Image

from ndec_builder.core.decode import decode
from ndec_builder.core.storage import read_uri
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.league.entries import RUNNER
from ndec_builder.league.environments import find_peer

ORIGINALS = 160
PUBLISHED = {  # (adapter, distance) → recall, precision: table "Transformed dataset" of imagededup's benchmarks page
    ("imagededup_phash", 0): (0.050, 1.0), ("imagededup_phash", 10): (0.079, 0.341),
    ("imagededup_phash", 32): (0.847, 0.003),
    ("phash", 0): (0.050, 1.0), ("phash", 10): (0.079, 0.341),
    ("dhash", 0): (0.040, 1.0), ("dhash", 10): (0.117, 0.138),
    ("whash", 0): (0.061, 0.917), ("whash", 10): (0.203, 0.023),
    ("pdq", 31): None, ("czkawka", 15): None,
}  # fmt: skip


def edited(image: Image.Image, rng: np.random.Generator) -> list[Image.Image]:
    width, height = image.size
    inner = width * 7 // 8, height * 7 // 8
    x, y = int(rng.integers(0, width - inner[0] + 1)), int(rng.integers(0, height - inner[1] + 1))
    return [
        image,
        image.crop((x, y, x + inner[0], y + inner[1])),
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        image.rotate(25),
        image.resize((height, height)),
    ]


def write_set(manifest: Path, folder: Path) -> int:
    data = from_manifest(manifest)
    rng, groups = np.random.default_rng(0), set[str]()
    for row in data.references.to_pylist():
        if (group := row["group"] or row["image_id"]) in groups or len(groups) == ORIGINALS:
            continue
        image = decode(read_uri(data.resolve(row["uri"])), row["rotation"] or 0).convert("RGB")
        for number, picture in enumerate(edited(image, rng)):
            picture.save(folder / f"{len(groups):04}-{number}.jpg", quality=95)
        groups.add(group)
    return len(groups)


def main() -> None:
    (manifest,) = (Path(sys.argv[1]) / "manifests").iterdir()
    lines, done = [], dict[str, np.ndarray]()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "pictures"
        folder.mkdir()
        count = write_set(manifest, folder)
        for (name, distance), published in PUBLISHED.items():
            if name not in done:
                done[name] = pairs_of(name, folder, Path(work) / f"{name}.csv")
            same, far = done[name]
            near = far <= distance
            recall, precision = same[near].sum() / (count * 15), same[near].sum() / max(near.sum(), 1)
            theirs = "– | –" if published is None else f"{published[0]:.3f} | {published[1]:.3f}"
            lines.append(f"| {name} | {distance} | {recall:.3f} | {precision:.3f} | {theirs} |")
    print("# League: five plain edits without look-alikes\n")
    print(f"{machine()}\n")
    print(
        f"{count} references of the demo, one per group, each with the five edits of imagededup's benchmark (crop of "
        "7/8, two flips, rotation by 25°, resize to a square): 15 pairs per group. Published: imagededup's page, "
        "UKBench photos, 1,800 groups. Recall can be compared. Precision cannot: with 11 times as many groups there "
        "are 127 times as many wrong pairs, and its photos show similar things. czkawka and PDQ publish nothing on "
        "such a set.\n"
    )
    print("| detector | distance ≤ | recall | precision | published recall | published precision |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


def pairs_of(name: str, folder: Path, out: Path) -> np.ndarray:
    """(2, pairs): whether both pictures are of one group, and their distance; each unordered pair once."""
    peer = find_peer(name)
    subprocess.run(
        [str(peer.python), "-I", str(RUNNER), str(peer.adapter), str(folder), str(folder), str(out)],
        check=True, capture_output=True,
    )  # fmt: skip
    with out.open(newline="") as file:
        rows = [(q[:4] == r[:4], -float(score)) for q, r, score in csv.reader(file) if q < r]
    return np.array(rows, dtype=np.float64).T


if __name__ == "__main__":
    main()
