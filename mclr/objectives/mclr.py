"""MCLR: each sample likelier under its own class than under others."""

from __future__ import annotations

import torch
from torch import Tensor

from mclr.config.objectives import Mclr
from mclr.objectives.base import Batch, LogLikelihood, Loss, term
from mclr.objectives.contrast import Contrast


# Eq. (22)/(150), Algorithm 1; with dsm = β > 0, Eq. (160).
def mclr_loss(
    objective: Mclr, policy: LogLikelihood, batch: Batch, contrast: Contrast, part: Tensor
) -> Loss:
    """−mean[ℓ(x, c) − ℓ(x, c̃_k)] − β mean ℓ(x, c); (1 + K) rows per sample in one pass.

    Share of the samples ``part`` (P,). Source: paper Section 3.5 and Appendix G.1.
    """
    K, P, N = contrast.K, len(part), len(batch.labels)
    owner = torch.cat([part, part.repeat_interleave(K)])
    labels = torch.cat([batch.labels[part], batch.labels[contrast.index[part]].flatten()])
    positive, negative = policy(batch.x[owner], labels, batch.draw.take(owner)).split([P, P * K])
    log_ratio = positive[:, None] - negative.view(P, K)
    likelihood = positive.sum() / N
    return Loss(
        -contrast.mean(log_ratio, part) - objective.dsm * likelihood,
        {
            "log_likelihood": term(likelihood),
            "log_ratio": term(contrast.mean(log_ratio, part)),
            "accuracy": contrast.mean((log_ratio > 0).double(), part),
        },
    )
