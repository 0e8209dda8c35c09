"""Settings of `ndec embed`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.core.config import Config, described, option, setting
from ndec_builder.core.executor.settings import ADDRESS_HELP, ENGINE_HELP, ENGINES
from ndec_builder.core.vocabulary import ROLES

DEFAULT_MODEL = "efficientnet-lite0"
MODEL_FORMS = "for instance timm:resnet50; `ndec embed --list-models` shows all kinds."
DEVICES = ("auto", "cpu", "cuda")
BF16_MODES = ("auto", "on", "off")
BF16_HELP = "bfloat16 inside the trunk: auto (where the hardware has it), on or off."
REJECTS_HELP = "Share of unusable images above which the exit code is 3."


@dataclass(frozen=True)
class EmbedConfig(Config):
    """Turn the images of one role into vectors."""

    workspace: Path
    role: str = field(
        metadata=described("Role of the images: reference, basic, pool or query.", cli="argument", choices=ROLES)
    )
    model: str = setting(DEFAULT_MODEL, f"Model that makes the vectors, {MODEL_FORMS}")
    whiten: bool = setting(True, "PCA whitening, the same for all roles of a workspace.")
    whitening: str = setting(
        "auto",
        "own: fitted on basic images, else on pool, else on reference. shipped: the one that comes with the default "
        "model. auto: own if a role has 500 images, else shipped; what a workspace already has is kept.",
        choices=("auto", "own", "shipped"),
        result=False,  # the whitening itself counts
    )
    dim: int = setting(
        0,
        "Dimensions that the whitening keeps, fewer than it has images to fit. 0: 256, or 1500 for MultiGrain.",
        ge=0,
    )
    shrinkage: float = setting(
        0.1,
        "0 to 1: how far the variances are pulled towards their mean; 0 whitens fully and amplifies noise.",
        ge=0,
        le=1,
    )
    whitening_images: int = setting(2000, "Images that the whitening is fitted on, spread evenly over the role.", ge=1)
    batch_size: int = setting(
        8, "Images per batch; the last batch is padded. 8 fit into a core's cache, a GPU needs 64.", ge=1
    )
    bf16: str = setting("auto", BF16_HELP, choices=BF16_MODES)
    shard_size: int = setting(
        512, "Images per shard, in full batches: the work that each worker loses when it is killed.", ge=1, result=False
    )
    device: str = setting("auto", "auto (CUDA if there is a GPU), cpu or cuda.", choices=DEVICES, result=False)
    engine: str = setting("local", ENGINE_HELP, choices=ENGINES, result=False)
    workers: int = setting(
        0,
        "Shards processed at a time; the result is the same. 0: as many as the cores allow, one with a GPU.",
        ge=0,
        result=False,
    )
    threads: int = setting(2, "Images processed in parallel in a worker, one core for each.", ge=1, result=False)
    ray_address: str = setting("", ADDRESS_HELP, result=False)
    task_gpus: float = setting(
        0.0, "GPUs of a Ray task, 1 or a share of one. Its CPUs are `threads`.", ge=0, result=False
    )
    max_reject_share: float = setting(0.05, REJECTS_HELP, ge=0, le=1, result=False)


@dataclass(frozen=True)
class DescriptorsConfig(Config):
    """`ndec ingest ROLE FILE --kind descriptors`: use descriptors that another team made."""

    workspace: Path
    role: str = field(
        metadata=described("Role of the images: reference, basic, pool or query.", cli="argument", choices=ROLES)
    )
    source: Path | str = field(metadata=described("HDF5 file in the form of ISC2021.", cli="argument"))
    model: str = option("", "descriptors: name to store them under; empty: the file's name without its ending.")
