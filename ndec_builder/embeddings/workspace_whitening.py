"""The whitening of a workspace: fitted once per model and used for every role, so that vectors can be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import say
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import fingerprint, read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import RESULT_VERSION, parse_model
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.whitening import Whitening

# training images first: the test set should not shape its own space
FIT_ROLES = ("basic", "pool", "reference", "query")
LEAST_IMAGES = 50  # with fewer, the whitening keeps so few dimensions that unrelated pictures score close to 1


def whitening_dim(config: EmbedConfig) -> int:
    """Dimensions that the whitening keeps: the setting, else the default of the model."""
    return config.dim or parse_model(config.model).whitening_dim


def whitening_path(config: EmbedConfig) -> Path:
    return Workspace(config.workspace).whitening(config.model) / "whitening.npz"


def load_fitted_whitening(config: EmbedConfig) -> Whitening | None:
    """The workspace's whitening if it was fitted with these weights and settings, else None."""
    path = whitening_path(config)
    record = path.with_name("run.json")
    if not path.is_file() or not record.is_file() or read_json(record).get("settings") != _settings(config):
        return None
    if (count := read_json(record).get("counts", {}).get("images", LEAST_IMAGES)) < LEAST_IMAGES:
        say(
            f"WARNING: the whitening in {path.parent} was fitted on only {count} images, fewer than {LEAST_IMAGES}: "
            "unrelated pictures may score close to 1. To go on without it, delete that folder and embed all roles again"
        )
    return Whitening.load(path)


def fit_whitening(config: EmbedConfig) -> Whitening | None:
    """Fit the whitening on images spread evenly over the first role of FIT_ROLES with LEAST_IMAGES, and store it.

    Images ingested later do not change it; different weights or settings do. None, with a warning, when no role has
    LEAST_IMAGES images: vectors are then not whitened.
    """
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.extract import extract

    record = RunRecord("whitening", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    chosen = _fit_images(workspace, config)
    if chosen is None:
        say(
            f"WARNING: vectors are not whitened, because no role of this workspace has {LEAST_IMAGES} images; a "
            "whitening fitted on fewer makes unrelated pictures look alike. Once a role has them, embed all roles again"
        )
        return None
    role, images = chosen
    say(f"fitting the whitening on {images.num_rows} {role} images")
    backbone = load_backbone(config.model, best_device(config.device))
    extracted = extract(
        backbone,
        images,
        workspace.resolve,
        batch_size=config.batch_size,
        bf16=config.bf16,
        threads=config.threads,
    )
    whitening = Whitening.fit(extracted.features, whitening_dim(config), config.shrinkage)
    path = whitening.save(whitening_path(config))
    record.write(
        path.parent,
        counts={"images": len(extracted.ids), "rejected": len(extracted.rejects), "dim": whitening.dim},
        inputs={role: images_fingerprint(images)},
        weights=backbone.weights,
        role=role,
        settings=_settings(config),
    )
    return whitening


def _fit_images(workspace: Workspace, config: EmbedConfig) -> tuple[str, pa.Table] | None:
    for role in FIT_ROLES:
        if workspace.images(role).is_file() and (table := workspace.read_images(role)).num_rows >= LEAST_IMAGES:
            count = min(config.whitening_images, table.num_rows)
            return role, table.take(np.linspace(0, table.num_rows - 1, count).round().astype(np.int64))
    return None


def _settings(config: EmbedConfig) -> str:
    """Fingerprint of everything the whitening depends on except the images."""
    return fingerprint(
        [
            RESULT_VERSION,
            parse_model(config.model).fingerprint(),
            whitening_dim(config),
            config.shrinkage,
            config.whitening_images,
            config.bf16,
        ]
    )
