"""The processes that train one model together: torch's default group, where there is one.

A process alone is its own group; nothing here then sends anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from mclr.device import CPU
from mclr.training.share import Share

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)
"""How long one process waits for the others: longer than the first may wait for another job."""


@contextmanager
def joined(
    micro_batch: int = 0,
    device: torch.device = CPU,
    checkpointing: bool = False,
    compiled: bool = False,
) -> Iterator[Share]:
    """Join the group that ``torchrun`` describes in the environment; the share of this process.

    All that the processes send each other lies on ``device``. Without ``torchrun``, or with one
    process, the share is the whole minibatch.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Share(micro_batch, checkpointing=checkpointing, compiled=compiled)
        return
    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        rank, size = dist.get_rank(), dist.get_world_size()
        yield Share(micro_batch, rank, size, checkpointing, compiled)
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def own_part(items: Sequence[T]) -> Sequence[T]:
    """The items of this process: consecutive ones, in the order of the processes; maybe none."""
    begin, end = (len(items) * r // count() for r in (rank(), rank() + 1))
    return items[begin:end]


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
    tensor = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return float(tensor)


def _device() -> torch.device:
    """Where what is sent must lie: nccl joins GPUs, each process having made its own current."""
    return torch.device("cuda") if dist.get_backend() == "nccl" else CPU
