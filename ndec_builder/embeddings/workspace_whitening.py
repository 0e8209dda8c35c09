"""The whitening of a workspace: chosen once per model and used for every role, so that vectors can be compared.

It is fitted on the workspace's own images if a role has ENOUGH_IMAGES. With fewer, the default model uses the one that
comes with ndec, fitted on training photos of the demo; other models are fitted on what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import fingerprint, read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import RESULT_VERSION, parse_model
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.whitening import Whitening

# training images first: the test set should not shape its own space
FIT_ROLES = ("basic", "pool", "reference", "query")
ENOUGH_IMAGES = 500  # with fewer, the shipped whitening describes pictures better than one fitted on them
SHIPPED = Path(__file__).parent / "default" / "whitening.npz"  # float16; the card next to it says how it was made
LEAST_IMAGES = 50  # with fewer, the whitening keeps so few dimensions that unrelated pictures score close to 1


def whitening_dim(config: EmbedConfig) -> int:
    """Dimensions that the whitening keeps: the setting, else the default of the model."""
    return config.dim or parse_model(config.model).whitening_dim


def whitening_path(config: EmbedConfig) -> Path:
    return Workspace(config.workspace).whitening(config.model) / "whitening.npz"


def load_fitted_whitening(config: EmbedConfig) -> Whitening | None:
    """The workspace's whitening if it was made with these weights and settings, else None."""
    path = whitening_path(config)
    record = path.with_name("run.json")
    if not path.is_file() or not record.is_file():
        return None
    facts = read_json(record)
    if facts.get("settings") != _settings(config) or config.whitening not in ("auto", facts.get("source", "own")):
        return None
    count = facts.get("counts", {}).get("images", LEAST_IMAGES)
    if count >= LEAST_IMAGES and facts.get("source", "own") == "own":
        _report_growth(config, facts.get("role", "other"), count)
    if count < LEAST_IMAGES:
        say(
            f"WARNING: the whitening in {path.parent} was fitted on only {number_of(count, 'image')}, "
            f"fewer than {LEAST_IMAGES}: "
            "unrelated pictures may score close to 1. To go on without it, delete that folder and embed all roles again"
        )
    return Whitening.load(path)


def _report_growth(config: EmbedConfig, role: str, count: int) -> None:
    """Say that the workspace has enough images now for a whitening that was fitted on few."""
    workspace = Workspace(config.workspace)
    paths = {now: workspace.images(now) for now in FIT_ROLES}
    sizes = {now: pq.read_metadata(path).num_rows for now, path in paths.items() if path.is_file()}
    more = next((now for now, size in sizes.items() if size >= ENOUGH_IMAGES), None)
    if count >= min(ENOUGH_IMAGES, config.whitening_images) or more is None:
        return
    say(
        f"note: the whitening of {config.model} was fitted on {number_of(count, f'{role} image')}, and the workspace "
        f"has {number_of(sizes[more], f'{more} image')} now, which describe pictures better. To fit it on these, "
        f"delete {whitening_path(config).parent}, embed all roles again and mine again; labels stay"
    )


def fit_whitening(config: EmbedConfig) -> Whitening | None:
    """Store and return the whitening that this workspace will use.

    Fitted on images spread evenly over the first role of FIT_ROLES with ENOUGH_IMAGES, else the shipped one, else
    fitted on the first role with LEAST_IMAGES; `config.whitening` chooses otherwise. Images ingested later do not
    change it; different weights or settings do. None, with a warning, when there is neither: vectors are then not
    whitened. Raises UsageError when a shipped one is asked for and there is none for these settings, NdecError when too
    many of the images cannot be read.
    """
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.extract import extract

    record = RunRecord("whitening", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    chosen = None if config.whitening == "shipped" else _fit_images(workspace, config, ENOUGH_IMAGES)
    if chosen is None and config.whitening != "own" and (shipped := _shipped(config)) is not None:
        return _store_shipped(config, record, *shipped)
    if config.whitening == "shipped":
        raise UsageError(
            f"no whitening comes with ndec for {config.model} with dim = {whitening_dim(config)} and shrinkage = "
            f"{config.shrinkage:g}; set whitening = auto under [embed]"
        )
    chosen = chosen or _fit_images(workspace, config, LEAST_IMAGES)
    if chosen is None:
        say(
            f"WARNING: vectors are not whitened, because no role of this workspace has {LEAST_IMAGES} images; a "
            "whitening fitted on fewer makes unrelated pictures look alike. Once a role has them, embed all roles again"
        )
        return None
    role, images = chosen
    backbone = load_backbone(config.model, best_device(config.device))
    say(f"fitting the whitening on {number_of(images.num_rows, f'{role} image')}")
    extracted = extract(
        backbone,
        images,
        workspace.resolve,
        batch_size=config.batch_size,
        bf16=config.bf16,
        threads=config.threads,
    )
    if extracted.rejects:
        _report_lost(role, images.num_rows, extracted.rejects)
    path = _save(config, whitening := Whitening.fit(extracted.features, whitening_dim(config), config.shrinkage))
    record.write(
        path.parent,
        counts={"images": len(extracted.ids), "rejected": len(extracted.rejects), "dim": whitening.dim},
        inputs={role: images_fingerprint(images)},
        weights=backbone.weights,
        model_fingerprint=backbone.fingerprint,
        role=role,
        source="own",
        settings=_settings(config),
    )
    return whitening


def _report_lost(role: str, count: int, rejects: Sequence[Mapping[str, str]]) -> None:
    """Say how many images a whitening lacks. Raises NdecError if it would stay behind as one of too few images."""
    left, first = count - len(rejects), rejects[0]
    lost = f"{number_of(len(rejects), f'{role} image')} of {count:,} cannot be read ({first['image_id']}: "
    lost += f"{first['reason']})"
    if left < LEAST_IMAGES <= count:
        raise NdecError(
            f"{lost}. The other {left} are too few for the whitening, which all roles share: at least {LEAST_IMAGES} "
            f"are needed. Restore the files, or ingest {role} images that can be read"
        )
    say(f"the whitening is fitted without them: {lost}")


def load_shipped_whitening(model: str) -> tuple[Whitening, dict[str, Any]] | None:
    """The whitening that comes with ndec for a model, and its card; None for other models or other weights."""
    card: dict[str, Any] = read_json(SHIPPED.with_suffix(".json"))
    if card["model"] != model or card["fingerprint"] != parse_model(model).fingerprint():
        return None
    stored = Whitening.load(SHIPPED)
    return Whitening(stored.mean.astype(np.float32), stored.matrix.astype(np.float32)), card


def _shipped(config: EmbedConfig) -> tuple[Whitening, dict[str, Any]] | None:
    found = load_shipped_whitening(config.model)
    fits = found is not None and (found[0].dim, found[1]["shrinkage"]) == (whitening_dim(config), config.shrinkage)
    return found if fits else None


def _store_shipped(config: EmbedConfig, record: RunRecord, whitening: Whitening, card: dict[str, Any]) -> Whitening:
    say(
        f"whitening: no role of this workspace has {ENOUGH_IMAGES} images, so the one that comes with ndec is used, "
        f"fitted on {card['images']:,} training photos of the demo. To fit it on your own images, set "
        'whitening = "own" under [embed] and embed all roles again'
    )
    path = _save(config, whitening)
    record.write(
        path.parent,
        counts={"images": card["images"], "dim": whitening.dim},
        weights=parse_model(config.model).weights_sha256(),
        model_fingerprint=parse_model(config.model).fingerprint(),
        role="demo",
        source="shipped",
        card=card,
        settings=_settings(config),
    )
    return whitening


def _save(config: EmbedConfig, whitening: Whitening) -> Path:
    """Write the whitening without a record: that of an earlier one must not describe it if the process is killed."""
    whitening_path(config).with_name("run.json").unlink(missing_ok=True)
    return whitening.save(whitening_path(config))


def _fit_images(workspace: Workspace, config: EmbedConfig, least: int) -> tuple[str, pa.Table] | None:
    for role in FIT_ROLES:
        if workspace.images(role).is_file() and (table := workspace.read_images(role)).num_rows >= least:
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
