"""Copy a fit of the fused scorer into the package: the default of `--scorer fused`.

    python benchmarks/ship_fused.py WORKSPACE

WORKSPACE holds a demo (`ndec demo`, seed 0) and `runs/fused` of `ndec train-asl --recipe fused` on its manifest. Copies
the weights, and a card with names and hashes of the training photos and the packages that they came from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ndec_builder.core.errors import UsageError
from ndec_builder.manifests.read import open_manifest
from ndec_builder.training.data import read_images
from ndec_builder.training.fused.model import DEFAULT_FIT, load_model, save_model

LEFT_OUT = ("version", "weights_sha256", "features", "slope", "offset")  # written again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    workspace = parser.parse_args().workspace
    manifest = open_manifest(workspace / "manifests" / "demo-1.0.0")
    if "corpus" not in manifest.info:
        raise UsageError(
            f"{manifest.directory} was not made from the mini corpus: its photos' ids mean nothing elsewhere"
        )
    model = load_model(workspace / "runs" / "fused")
    images = read_images(manifest)
    facts = {name: value for name, value in model.card.items() if name not in LEFT_OUT}
    facts |= {
        "train_photos": sorted(images["image_id"].to_pylist()),
        "packages": manifest.info["corpus"]["packages"],
        "about": "fitted on photos of free packages, listed here by name and hash; no picture is in these two files",
    }
    path = save_model(DEFAULT_FIT, model, facts)
    print(path, sum(file.stat().st_size for file in DEFAULT_FIT.iterdir()), "bytes")


if __name__ == "__main__":
    main()
