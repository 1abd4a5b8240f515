"""MCLR: each sample likelier under its own class than under others."""

from __future__ import annotations

import torch

from mclr.config import Mclr
from mclr.objectives.base import Batch, LogLikelihood, Loss
from mclr.objectives.contrast import draw_partners


# Eq. (22)/(150), Algorithm 1; with dsm = β > 0, Eq. (160).
def mclr_loss(
    objective: Mclr,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    rng: torch.Generator,
) -> Loss:
    """−mean[ℓ(x, c) − ℓ(x, c̃_k)] − β mean ℓ(x, c); (1 + K) rows per sample in one pass.

    Source: paper Section 3.5 and Appendix G.1. ``reference`` is not used.
    """
    K, N = objective.K, len(batch.labels)
    contrast = draw_partners(batch.labels, K, rng)
    own = torch.arange(N)
    owner = torch.cat([own, own.repeat_interleave(K)])
    labels = torch.cat([batch.labels, batch.labels[contrast.index].flatten()])
    positive, negative = policy(batch.x[owner], labels, batch.draw.take(owner)).split([N, N * K])
    log_ratio = positive[:, None] - negative.view(N, K)
    value = -contrast.mean(log_ratio) - objective.dsm * positive.mean()
    return Loss(
        value,
        {
            "log_likelihood": positive.mean().item(),
            "log_ratio": contrast.mean(log_ratio).item(),
            "accuracy": contrast.mean((log_ratio > 0).float()).item(),
        },
    )
