"""The fused model: a few small networks on pair features, averaged and calibrated; stored as safetensors and JSON."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, sha256_bytes, write_bytes, write_json
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.fused.features import PAIR_FEATURES

if TYPE_CHECKING:
    from torch import Tensor

    from ndec_builder.training.model import Head

FUSED_VERSION = 4
FUSED_WEIGHTS, FUSED_CARD = "fused.safetensors", "fused.json"
DEFAULT_FIT = Path(__file__).parent / "default"  # the fit that ships with ndec; its card names its training images
CLIP = 5.0  # standard deviations: features are clipped to this distance


@dataclass(frozen=True, eq=False)
class FusedModel:
    """P(query is an edited copy of reference) = σ(slope · mean of the networks' logits + offset).

    mean, std: (f,) float32 to standardise the features · layers: arrays named `network.layer.weight|bias`, float32 ·
    whitening: of the descriptor whose score is a feature · background: (m, d) float16 vectors of training images, for
    the normalised score · heads: ASL heads on the same trunk, whose mean log norm ratio is a feature; without heads it
    is 0 · card: the content of fused.json.
    """

    mean: np.ndarray
    std: np.ndarray
    layers: dict[str, np.ndarray]
    slope: float
    offset: float
    whitening: Whitening
    background: np.ndarray
    card: dict[str, Any] = field(default_factory=dict)
    heads: tuple[Head, ...] = ()

    @property
    def networks(self) -> int:
        return len({name.split(".")[0] for name in self.layers})

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n, f) float32 features → (n,) float64 logits, with the same bits for a row for any n."""
        rows = np.clip((features - self.mean) / self.std, -CLIP, CLIP).astype(np.float64)
        total = np.zeros(len(rows))
        for network in range(self.networks):
            values = rows
            for layer in range(3):
                weight, bias = (self.layers[f"{network}.{layer}.{part}"] for part in ("weight", "bias"))
                # einsum without BLAS: a row's sum does not depend on how many rows there are
                values = np.einsum("nf,hf->nh", values, weight.astype(np.float64)) + bias
                if layer < 2:
                    values = np.maximum(values, 0.0)
            total += values[:, 0]
        return self.slope * total / self.networks + self.offset

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64 in 0 … 1, in the order of the logits."""
        return 1 / (1 + np.exp(-self.logits(features)))

    def norms(self, pooled: np.ndarray) -> np.ndarray:
        """(n, dim) trunk features → (n,) float64 geometric mean of the heads' norms."""
        from ndec_builder.training.model import norms_of

        logs = [np.log(norms_of(head, pooled)) for head in self.heads]
        norms: np.ndarray = np.exp(np.mean(logs, axis=0))
        return norms

    @property
    def fingerprint(self) -> str:
        return str(self.card["weights_sha256"])

    def refuse_overlap(self, sha256: set[str], groups: set[str], what: str, ids: Set[str] = frozenset()) -> None:
        """Raise NdecError if one of these images, or its group, was trained on.

        ids: compared only with a fit whose ids name photos globally, as those of the mini corpus do: the same photo has
        a different sha256 when a different version of Pillow wrote it.
        """
        images, same = set(self.card["train_sha256"]) & sha256, set(self.card["train_groups"]) & groups
        images |= set(self.card.get("train_photos", ())) & ids
        if images or same:
            raise NdecError(
                f"the fused scorer was fitted on {len(images)} of the {what} and on images of {len(same)} of their "
                f"groups (first: {sorted(images or same)[0]}); a result from it would be meaningless. Fit one on "
                "different images: `ndec train-asl --recipe fused --manifest DIR`, then pass --fused-model runs/fused"
            )


def save_model(directory: Path, model: FusedModel, facts: dict[str, Any]) -> Path:
    """Write fused.safetensors and fused.json; equal fits give equal bytes. Returns the weights' path."""
    from safetensors.numpy import save

    tensors = {f"layers.{name}": np.ascontiguousarray(value) for name, value in model.layers.items()}
    tensors |= {
        "mean": model.mean,
        "std": model.std,
        "whitening.mean": model.whitening.mean,
        "whitening.matrix": np.ascontiguousarray(model.whitening.matrix),
        "background": model.background,
    }
    for number, head in enumerate(model.heads):
        tensors |= {f"head-{number}.{name}": _compact(value).numpy() for name, value in head.state_dict().items()}
    weights = save(tensors)
    write_bytes(directory / FUSED_WEIGHTS, weights)
    write_json(
        directory / FUSED_CARD,
        {
            "version": FUSED_VERSION,
            "weights_sha256": sha256_bytes(weights),
            "features": list(PAIR_FEATURES),
            "slope": model.slope,
            "offset": model.offset,
            "heads": [head.shape for head in model.heads],
            **facts,
        },
    )
    return directory / FUSED_WEIGHTS


def load_model(path: Path) -> FusedModel:
    """Load a model from a run's directory or one of its two files.

    Raises NdecError when a file is missing or damaged, or comes from a version with different features.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    directory = path if path.is_dir() else path.parent
    for name in (FUSED_WEIGHTS, FUSED_CARD):
        if not (directory / name).is_file():
            from ndec_builder.training.checkpoint import PREVIOUS

            if (directory / PREVIOUS / FUSED_CARD).is_file():
                stopped = f"a later fit in {directory} is not finished: run it again, or give {directory / PREVIOUS}"
                raise NdecError(f"{path} holds no finished fused scorer: {stopped}, the one before it")
            raise NdecError(
                f"{path} is not a fused scorer: {directory / name} does not exist; give the folder of a finished "
                "`ndec train-asl --recipe fused` (runs/fused)"
            )
    card = read_json(directory / FUSED_CARD)
    if (
        not isinstance(card, dict)
        or card.get("version") != FUSED_VERSION
        or card.get("features") != list(PAIR_FEATURES)
    ):
        version = card.get("version") if isinstance(card, dict) else None
        raise NdecError(
            f"{directory / FUSED_CARD} has version {version!r} or different features; this ndec reads version "
            f"{FUSED_VERSION} with {len(PAIR_FEATURES)} features: fit it again"
        )
    data = (directory / FUSED_WEIGHTS).read_bytes()
    if card.get("weights_sha256") != sha256_bytes(data):
        raise NdecError(
            f"{directory / FUSED_WEIGHTS} is damaged or from a different fit; copy both files again or fit again"
        )
    try:
        tensors = load(data)
        layers = {n.removeprefix("layers."): v for n, v in tensors.items() if n.startswith("layers.")}
        whitening = Whitening(tensors["whitening.mean"], tensors["whitening.matrix"])
        scaling = float(card["slope"]), float(card["offset"])
        standard, background = (tensors["mean"], tensors["std"]), tensors["background"]
        heads = tuple(_head(shape, tensors, f"head-{number}.") for number, shape in enumerate(card["heads"]))
        return FusedModel(*standard, layers, *scaling, whitening, background, card, heads)
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise NdecError(f"{directory / FUSED_WEIGHTS} cannot be read ({error}); fit the fused scorer again") from None


def rounded(head: Head) -> Head:
    """The head with its matrices rounded to float16 as stored, so that a loaded head gives the same ratios."""
    head.load_state_dict({name: _compact(value).float() for name, value in head.state_dict().items()})
    return head


def _compact(value: Tensor) -> Tensor:
    return value.half() if value.ndim == 2 else value


def _head(shape: dict[str, int], tensors: dict[str, np.ndarray], prefix: str) -> Head:
    import torch

    from ndec_builder.training.model import Head

    head = Head(**shape)
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    head.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in own.items()})
    return head.eval().requires_grad_(False)
