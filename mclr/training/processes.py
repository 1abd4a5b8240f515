"""The processes that train one model together: torch's default group, where there is one.

A process alone is its own group; nothing here then sends anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from mclr.training.share import Share


@contextmanager
def joined(micro_batch: int = 0) -> Iterator[Share]:
    """Join the group that ``torchrun`` describes in the environment; the share of this process.

    Without ``torchrun``, or with one process, the share is the whole minibatch.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Share(micro_batch)
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Share(micro_batch, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process writes the files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own_key() -> tuple[int, ...]:
    """What tells the random draws of this process from those of others; empty if alone."""
    return (dist.get_rank(),) if dist.is_initialized() else ()


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def maximum(value: float) -> float:
    """The largest value of all processes."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return float(tensor)
