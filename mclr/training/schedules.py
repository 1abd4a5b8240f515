"""The power-function average of weights."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn


# Karras et al. (arXiv 2312.02696), Eq. 126: the cubic whose root has σ_rel of Eq. 123.
@cache
def ema_exponent(std: float) -> float:
    """γ of the power-function average whose profile has relative standard deviation ``std``."""
    t = std**-2
    return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())


# Karras et al. (arXiv 2312.02696), Eq. 127: β_t = (1 − 1/t)^(γ+1).
@torch.no_grad()
def update_ema(
    ema: nn.Module, net: nn.Module, step: int, std: float, half_life: float = 0.0
) -> None:
    """Average after optimiser step ``step`` (from 1); buffers are copied.

    With a ``half_life`` in steps it is exponential, and ``std`` plays no part.
    """
    beta = 0.5 ** (1 / half_life) if half_life else (1 - 1 / step) ** (ema_exponent(std) + 1)
    for average, value in zip(ema.parameters(), net.parameters(), strict=True):
        average.lerp_(value, 1 - beta)
    for copy, buffer in zip(ema.buffers(), net.buffers(), strict=True):
        copy.copy_(buffer)
