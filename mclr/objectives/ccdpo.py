"""CC-DPO: direct preference optimization with other classes' samples as the non-preferred ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mclr.objectives.method import LOG_RATIO, REWARD, Method
from mclr.objectives.objective import Given, Needs, Objective
from mclr.settings.section import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.contrast import Contrast
    from mclr.objectives.loss import Batch, LogLikelihood, Loss

ENTRY = Method(
    "ccdpo",
    "+CC-DPO",
    "#cc79a7",
    "D",
    "diamond",
    title="CC-DPO",
    source="Eq. (156) of the MCLR paper",
    meaning="Direct preference optimization: an image x_w of the class is preferred to x_l of "
    "another.",
    equation=f"minimise  −E[ log σ( β r(x_w, c) − β r(x_l, c) ) ],\n          {LOG_RATIO}",
    note=(
        "CC-DPO, Eq. (156), an image x_w of class c and an image x_l of another:",
        "min −log σ(r(x_w, c) − r(x_l, c))",
        REWARD,
    ),
    trained=True,
    saturates=True,
)


class CcDpo(Objective):
    """Eq. (156)."""

    name: Literal["ccdpo"]
    beta: Positive
    K: Count = 1

    @property
    def needs(self) -> Needs:
        return Needs(partners=self.K, reference=True)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return ccdpo_loss(self, given.policy, given.reference, given.batch, given.contrast, part)


# Eq. (156), for one tuple; equal to thu-ml/CCA's loss_type "DPO".
def dpo_tuple_loss(preferred: Tensor, other: Tensor) -> Tensor:
    """−log σ(r_w − r_l) of rewards r = β log p_θ/p_ref; broadcast shape of both."""
    from torch.nn.functional import logsigmoid

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
    from mclr.objectives.loss import Loss, preference_log_ratios, preference_terms

    ratios = preference_log_ratios(policy, reference, batch, contrast, part)
    preferred, other = objective.beta * ratios.preferred, objective.beta * ratios.other
    return Loss(
        contrast.mean(dpo_tuple_loss(preferred, other), part),
        preference_terms(preferred, other, contrast, part),
    )
