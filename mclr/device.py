"""The device that a process computes on, and how tensors get there.

Data and random draws are made on the CPU, the same for every device, and moved for each pass.
"""

from __future__ import annotations

import ctypes
import os
import sys

import torch
from torch import Tensor

from mclr.errors import UserError

CPU = torch.device("cpu")
NAMES = ("auto", "cpu", "cuda")


def use_device(name: str = "auto") -> torch.device:
    """The device of this process, made torch's current one: its own GPU (LOCAL_RANK), or the CPU.

    Raises:
        UserError: ``name`` is cuda, or processes were started for GPUs, that are not there.
    """
    found = torch.cuda.device_count() if name != "cpu" else 0
    if found == 0:
        if name == "cuda":
            raise UserError("--device cuda: torch finds no CUDA GPU; use --device cpu (or auto)")
        return CPU
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank >= found:
        raise UserError(
            f"process {rank + 1} of this node has no GPU of its own, the node shows {found}; start "
            "one process per GPU, or use --device cpu"
        )
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device


def set_up(threads: int, name: str = "auto") -> torch.device:
    """Same machine, same bits: torch for ``threads`` CPU threads; the device of ``use_device``."""
    # Read when the first matrix product of a process starts: cuBLAS then repeats its sums.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    device = use_device(name)
    if device.type == "cpu":
        keep_memory()
    # One CPU thread is deterministic as it is, and this call imports the compiler (1 s).
    if threads > 1 or device.type != "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        # float32 means float32: no TF32, which keeps 10 of the 23 bits.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
    return device


def keep_memory() -> bool:
    """Freed memory stays with this process, for its next tensors; whether the C library can do so.

    glibc gives it back at the end of each step, and the next step waits for its pages: up to a
    seventh of a training step's time. Tensors of more than 32 MiB it always gives back.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h, at the largest values that glibc takes.
    return mallopt is not None and mallopt(-1, 2**31 - 1) == mallopt(-3, 2**25) == 1


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; what goes to a GPU goes from pinned memory, beside its work."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fused(device: torch.device) -> bool | None:
    """Whether an optimiser updates all weights in one kernel, as GPUs can; None: as torch does."""
    return True if device.type == "cuda" else None
