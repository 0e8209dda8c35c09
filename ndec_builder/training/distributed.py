"""Several processes that train one detector together (torchrun): who does what, and sums over all of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Team:
    """This process among `size` equal ones; rank 0 alone writes files. Alone (size 1), nothing here does anything."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in each of them."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The body runs in rank 0, then in the others, which find what rank 0 left on the shared disk."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


@contextlib.contextmanager
def team(device: str) -> Iterator[Team]:
    """The team that torchrun started this process in (gloo on a CPU, nccl on CUDA), or a process alone."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        yield Team()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
