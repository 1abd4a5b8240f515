"""CCA: noise-contrastive estimation of the density ratio between a class and all classes."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from mclr.config import Cca
from mclr.objectives.base import Batch, LogLikelihood, Loss, preference_log_ratios


# Eq. (159), Algorithm 2.
def cca_loss(
    objective: Cca,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    rng: torch.Generator,
) -> Loss:
    """−mean[log σ(β r(x_w, c)) + λ log σ(−β r(x_l, c))] with r = log p_θ/p_ref."""
    ratios, mean = preference_log_ratios(policy, reference, batch, objective.K, rng)
    preferred, other = objective.beta * ratios.preferred, objective.beta * ratios.other
    return Loss(
        -mean(logsigmoid(preferred) + objective.lam * logsigmoid(-other)),
        {
            "reward_preferred": preferred.mean().item(),
            "reward_other": mean(other).item(),
            "margin": mean(preferred - other).item(),
            "accuracy": mean((preferred > other).float()).item(),
        },
    )
