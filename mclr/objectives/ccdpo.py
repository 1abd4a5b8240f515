"""CC-DPO: direct preference optimization with other classes' samples as the non-preferred ones."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from mclr.config import CcDpo
from mclr.objectives.base import Batch, LogLikelihood, Loss, preference_log_ratios


# Eq. (156), Algorithm 2.
def ccdpo_loss(
    objective: CcDpo,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    rng: torch.Generator,
) -> Loss:
    """−mean log σ(β [r(x_w, c) − r(x_l, c)]) with r = log p_θ/p_ref."""
    ratios, mean = preference_log_ratios(policy, reference, batch, objective.K, rng)
    margin = objective.beta * (ratios.preferred - ratios.other)
    return Loss(
        -mean(logsigmoid(margin)),
        {
            "reward_preferred": objective.beta * ratios.preferred.mean().item(),
            "reward_other": objective.beta * mean(ratios.other).item(),
            "margin": mean(margin).item(),
            "accuracy": mean((margin > 0).float()).item(),
        },
    )
