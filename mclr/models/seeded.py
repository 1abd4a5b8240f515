"""Randomness that belongs to a seed: the same in any batch, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mclr.errors import UserError


def seeded_noise(seeds: Sequence[int], shape: Sequence[int], stream: int = 0) -> Tensor:
    """Unit Gaussian noise (len(seeds), *shape), float32 on CPU; row i depends on seeds[i] only.

    shape: of one image. stream: number of an independent draw for the same seeds (0 = starting
    noise, 1, 2, ... = for example the churn noise of each step). Seeds count modulo 2**32.
    """
    if stream < 0:
        raise UserError(f"stream {stream}: expected 0, 1, 2, ...")
    # torch's CPU generator reads the low 32 bits of a seed only, so a stream permutes those.
    mask = stream * 0x9E3779B9 % 2**32
    rows = [
        torch.randn(tuple(shape), generator=torch.Generator().manual_seed((seed % 2**32) ^ mask))
        for seed in seeds
    ]
    return torch.stack(rows) if rows else torch.empty(0, *shape)


def seeded_uniforms(seeds: Sequence[int], length: int) -> Tensor:
    """Uniforms in [0, 1) for `length` tokens per seed: float64 (N, length) on the CPU.

    A row depends on its own seed only, so a picture is the same in any batch, and two methods
    given the same seeds are compared on the same draws.
    """
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        rows.append(torch.rand(length, dtype=torch.float64, generator=generator))
    return torch.stack(rows) if rows else torch.empty(0, length, dtype=torch.float64)
