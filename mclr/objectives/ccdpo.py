"""CC-DPO: direct preference optimization with other classes' samples as the non-preferred ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from mclr.config.objectives import CcDpo
from mclr.objectives.base import (
    Batch,
    LogLikelihood,
    Loss,
    preference_log_ratios,
    preference_terms,
)
from mclr.objectives.contrast import Contrast


# Eq. (156), for one tuple; equal to thu-ml/CCA's loss_type "DPO".
def dpo_tuple_loss(preferred: Tensor, other: Tensor) -> Tensor:
    """−log σ(r_w − r_l) of rewards r = β log p_θ/p_ref; broadcast shape of both."""
    return -logsigmoid(preferred - other)


# Algorithm 2.
def ccdpo_loss(
    objective: CcDpo,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    contrast: Contrast,
    part: Tensor,
) -> Loss:
    """Mean of the tuples' losses; share of the samples ``part`` (P,)."""
    ratios = preference_log_ratios(policy, reference, batch, contrast, part)
    preferred, other = objective.beta * ratios.preferred, objective.beta * ratios.other
    return Loss(
        contrast.mean(dpo_tuple_loss(preferred, other), part),
        preference_terms(preferred, other, contrast, part),
    )
