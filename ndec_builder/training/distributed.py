"""Several processes that train one detector together (torchrun): ranks, sums and barriers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Team:
    """This process among `size` equal ones. Only rank 0 writes files. With size 1 all methods do nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files (rank 0)."""
        return self.rank == 0

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes; every process gets it."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the body in rank 0, then in the others, which find the files of rank 0 on the shared disk."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


@contextlib.contextmanager
def team(device: str) -> Iterator[Team]:
    """The processes that torchrun started (gloo on CPU, nccl on CUDA), or this process alone."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        yield Team()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), size)
        dist.barrier()  # gloo aborted a process once while another one was closing their connection
    finally:
        dist.destroy_process_group()
