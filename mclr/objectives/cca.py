"""CCA: noise-contrastive estimation of the density ratio between a class and all classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mclr.config.objectives import Cca
from mclr.objectives.base import (
    Batch,
    LogLikelihood,
    Loss,
    preference_log_ratios,
    preference_terms,
)
from mclr.objectives.contrast import Contrast


# Eq. (159), for one tuple; equal to thu-ml/CCA's loss_type "CCA".
def cca_tuple_loss(
    preferred: Tensor, other: Tensor, lam: float, unconditional: Tensor | None = None
) -> Tensor:
    """−log σ(r_w) − λ log σ(−r_l) of rewards r = β log p_θ/p_ref; broadcast shape of both.

    Where ``unconditional`` (bool, same shape), the label was dropped: x_l is then no negative, and
    both samples count as positive with weight 1.
    """
    negative = lam * logsigmoid(-other)
    if unconditional is not None:
        negative = torch.where(unconditional, logsigmoid(other), negative)
    return -logsigmoid(preferred) - negative


# Algorithm 2.
def cca_loss(
    objective: Cca,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    contrast: Contrast,
    part: Tensor,
    unconditional: Tensor | None = None,
) -> Loss:
    """Mean of the tuples' losses; share of the samples ``part`` (P,).

    ``unconditional`` (N,): samples of ``batch`` whose label is the null label, which the recipe of
    thu-ml/CCA drops at random (its uncond_ratio).
    """
    ratios = preference_log_ratios(policy, reference, batch, contrast, part)
    preferred, other = objective.beta * ratios.preferred, objective.beta * ratios.other
    dropped = None if unconditional is None else unconditional[part, None]
    return Loss(
        contrast.mean(cca_tuple_loss(preferred, other, objective.lam, dropped), part),
        preference_terms(preferred, other, contrast, part),
    )
