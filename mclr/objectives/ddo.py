"""DDO: real samples against samples drawn from the frozen base model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mclr.config.objectives import Ddo
from mclr.objectives.base import Batch, LogLikelihood, Loss, term


# Zheng et al. (arXiv 2503.01103): −E_data log σ(β r) − α E_ref log(1 − σ(β r)), r = log p_θ/p_ref.
def ddo_loss(
    objective: Ddo,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    negatives: Batch,
    part: Tensor,
) -> Loss:
    """Each sample, real or generated, under its own label; both halves in one pass.

    Share of the samples ``part`` (P,) of both minibatches, which have the same size N. The
    diffusion part of DDO's training is unpublished: using the same one-draw surrogate as the
    other objectives is ours.
    """
    P, N = len(part), len(batch.labels)
    if len(negatives.labels) != N:
        raise ValueError(f"{len(negatives.labels)} negatives for {N} samples: expected as many")
    x = torch.cat([batch.x[part], negatives.x[part]])
    labels = torch.cat([batch.labels[part], negatives.labels[part]])
    draw = batch.draw.take(part).join(negatives.draw.take(part))
    with torch.no_grad():
        reference_values = reference(x, labels, draw)
    ratio = policy(x, labels, draw) - reference_values
    real, generated = (objective.beta * ratio).split([P, P])
    value = -logsigmoid(real).sum() - objective.alpha * logsigmoid(-generated).sum()
    right = (real > 0).sum() + (generated < 0).sum()
    return Loss(
        value / N,
        {
            "reward_preferred": term(real.sum()) / N,
            "reward_other": term(generated.sum()) / N,
            "margin": term((real - generated).sum()) / N,
            "accuracy": term(right) / (2 * N),
        },
    )
