"""DDO: real samples against samples drawn from the frozen base model."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from mclr.config import Ddo
from mclr.objectives.base import Batch, LogLikelihood, Loss


# Zheng et al. (arXiv 2503.01103): −E_data log σ(β r) − α E_ref log(1 − σ(β r)), r = log p_θ/p_ref.
def ddo_loss(
    objective: Ddo,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    negatives: Batch,
) -> Loss:
    """Each sample, real or generated, under its own label; both halves in one pass.

    The diffusion part of DDO's training is unpublished: using the same one-draw surrogate as the
    other objectives is ours.
    """
    N = len(batch.labels)
    x = torch.cat([batch.x, negatives.x])
    labels = torch.cat([batch.labels, negatives.labels])
    draw = batch.draw.join(negatives.draw)
    with torch.no_grad():
        reference_values = reference(x, labels, draw)
    ratio = policy(x, labels, draw) - reference_values
    real, generated = (objective.beta * ratio).split([N, len(negatives.labels)])
    value = -logsigmoid(real).mean() - objective.alpha * logsigmoid(-generated).mean()
    return Loss(
        value,
        {
            "reward_preferred": real.mean().item(),
            "reward_other": generated.mean().item(),
            "margin": (real.mean() - generated.mean()).item(),
            "accuracy": (torch.cat([real > 0, generated < 0])).float().mean().item(),
        },
    )
