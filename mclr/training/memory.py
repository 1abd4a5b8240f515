"""Memory that is not there: the message names the number of samples to try instead."""

from __future__ import annotations

import torch

from mclr.errors import UserError

# What torch's allocators say, besides OutOfMemoryError: on the CPU, in CUDA, in cuBLAS.
PHRASES = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a training step says that memory was short."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)


def out_of_memory(name: str, step: int, samples: int) -> UserError:
    """What to tell the user of run ``name`` whose passes hold ``samples`` samples; 0: unknown."""
    if samples > 1:
        advice = (
            f"with {samples} samples per pass; try --set-resources RULE:micro_batch={samples // 2} "
            "(RULE as Snakemake prints it), which gives the same gradient"
        )
    elif samples == 1:
        advice = "with one sample per pass; it needs a machine with more memory"
    else:
        advice = "; lower its `batch`, or use a machine with more memory"
    message = f"{name}: out of memory at step {step} {advice}. Saved state is kept"
    return UserError(message.replace(" ;", ";"))
