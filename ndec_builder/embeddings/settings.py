"""Settings of `ndec embed`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting

DEFAULT_MODEL = "efficientnet-lite0"


@dataclass(frozen=True)
class EmbedConfig:
    """Turn the images of one role into vectors."""

    workspace: Path
    role: str
    model: str = setting(DEFAULT_MODEL, "`ndec embed --list-models` shows all kinds")
    whiten: bool = setting(True, "PCA whitening fitted once per workspace on basic, else pool, else reference images")
    dim: int = setting(
        0, "dimensions kept by the whitening, at most images it is fitted on less one; 0: 256, MultiGrain 1500"
    )
    shrinkage: float = setting(0.1, "0–1: pull the variances towards their mean; 0 whitens fully and amplifies noise")
    whitening_images: int = setting(2000, "images that the whitening is fitted on, spread evenly over the role")
    batch_size: int = setting(8, "images a batch, the last one padded: 8 stay in a core's cache; a GPU wants 64")
    bf16: str = setting("auto", "auto (where the processor has it), on or off: bfloat16 inside the trunk")
    shard_size: int = setting(512, "images a shard, in whole batches: what a kill costs each worker", result=False)
    device: str = setting("auto", "auto (CUDA when there is one), cpu or cuda", result=False)
    engine: str = setting("local", "local (processes of this machine) or ray (tasks of a cluster)", result=False)
    workers: int = setting(0, "shards at a time; 0: as many as the cores allow, one where there is a GPU", result=False)
    threads: int = setting(2, "images described side by side in a worker, each by one core", result=False)
    ray_address: str = setting("", "of a running Ray cluster; empty: $RAY_ADDRESS, else a local one", result=False)
    task_gpus: float = setting(0.0, "GPUs of a Ray task, 1 or a share of one; its CPUs are `threads`", result=False)
    max_reject_share: float = setting(0.05, "more unusable images than this: exit 3", result=False)


@dataclass(frozen=True)
class DescriptorsConfig:
    """`ndec ingest ROLE FILE --kind descriptors`: take over descriptors that another team made."""

    workspace: Path
    role: str
    source: Path | str  # HDF5 file of ISC2021 form
    model: str = ""  # name under which they are kept; empty: the file's name without its ending
