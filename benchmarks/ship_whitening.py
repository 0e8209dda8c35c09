"""Put a whitening of the default model into the package: the one that workspaces with few images use.

    python benchmarks/ship_whitening.py WORKSPACE

WORKSPACE holds the demo's corpus (`ndec corpus fetch`, seed 0). The whitening is fitted on its basic images. Only the
mean and the directions of their descriptors are shipped, as float16, with a card that names commit, packages and
settings.
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import atomic_path, read_json, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import parse_model
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.workspace_whitening import SHIPPED, fit_whitening, whitening_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace(parser.parse_args().workspace)
    corpus = workspace.images("basic").with_name("corpus.run.json")
    if not corpus.is_file():
        raise UsageError(f"{workspace.root} was not made by `ndec corpus fetch`")
    config = replace(EmbedConfig(workspace.root, "basic"), whitening="own", bf16="off")
    whitening = fit_whitening(config)
    record, facts = read_json(whitening_path(config).with_name("run.json")), read_json(corpus)
    if whitening is None or record["role"] != "basic":
        raise UsageError(f"{workspace.root} has too few basic images")
    with atomic_path(SHIPPED) as temporary:
        np.savez_compressed(
            temporary, mean=whitening.mean.astype(np.float16), matrix=whitening.matrix.astype(np.float16)
        )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    card = {
        "about": "statistics of the descriptors of free photos; no picture is in these two files",
        "model": config.model,
        "fingerprint": parse_model(config.model).fingerprint(),
        "weights": record["weights"],
        "images": record["counts"]["images"],
        "images_fingerprint": record["inputs"]["basic"],
        "dim": whitening.dim,
        "shrinkage": config.shrinkage,
        "commit": commit,
        "corpus": {"seed": facts["config"]["seed"], "size": facts["config"]["size"], "packages": facts["packages"]},
    }
    write_json(SHIPPED.with_suffix(".json"), card)
    print(SHIPPED, SHIPPED.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
