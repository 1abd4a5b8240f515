"""How base models are trained: optimiser, learning rate, average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Recipe:
    """What training of a base model needs beside its loss.

    average_std: relative deviation of the profile that averages the weights; None: no average.
    label_noise: share of the training images whose label is drawn anew.
    """

    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int], float]
    average_std: float | None = None
    label_noise: float = 0.0


# Karras et al. (arXiv 2312.02696), Eq. 67, with a linear warm-up over images.
def edm2_learning_rate(
    step: int, batch: int, *, lr: float, decay_steps: int, rampup_images: int
) -> float:
    """α_ref / sqrt(max(t / t_ref, 1)) at step t (from 0), ramped up over the first images."""
    value = lr / math.sqrt(max(step / decay_steps, 1))
    return value * min(step * batch / rampup_images, 1) if rampup_images else value


# VAR's schedule "lin0": linear warm-up, then linear to zero.
def linear_learning_rate(step: int, *, lr: float, warmup_steps: int, steps: int) -> float:
    """Learning rate at step t (from 0)."""
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    return lr * (steps - step) / max(steps - warmup_steps, 1)
