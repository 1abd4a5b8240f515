"""What an objective is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mclr.likelihood import Draw
from mclr.objectives.contrast import draw_partners

LogLikelihood = Callable[[Tensor, Tensor, Draw], Tensor]


@dataclass(frozen=True)
class Batch:
    """A minibatch: samples x (N, …), labels (N,), and one draw per sample."""

    x: Tensor
    labels: Tensor
    draw: Draw


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and the named terms worth recording."""

    value: Tensor
    terms: dict[str, float]


@dataclass(frozen=True)
class LogRatios:
    """log p_θ/p_ref of preferred samples (N, 1) and of K non-preferred ones each (N, K)."""

    preferred: Tensor
    other: Tensor


# Algorithm 2, lines 19–20, with the positive row shared by the K tuples of a sample.
def preference_log_ratios(
    policy: LogLikelihood, reference: LogLikelihood, batch: Batch, K: int, rng: torch.Generator
) -> tuple[LogRatios, Callable[[Tensor], Tensor]]:
    """Log-ratios of (x_i, c_i) and of K samples x̃ of other classes under the same c_i, σ_i, ε_i.

    Returns the ratios and the mean over the tuples that exist.
    """
    contrast = draw_partners(batch.labels, K, rng)
    own = torch.arange(len(batch.labels))
    owner = torch.cat([own, own.repeat_interleave(K)])
    rows = torch.cat([own, contrast.index.flatten()])
    arguments = batch.x[rows], batch.labels[owner], batch.draw.take(owner)
    with torch.no_grad():
        reference_values = reference(*arguments)
    preferred, other = (policy(*arguments) - reference_values).split([len(own), len(own) * K])
    return LogRatios(preferred[:, None], other.view(len(own), K)), contrast.mean
