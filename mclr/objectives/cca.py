"""CCA: noise-contrastive estimation of the density ratio between a class and all classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field

from mclr.objectives.method import LOG_RATIO, REWARD, Method
from mclr.objectives.objective import Given, Needs, Objective
from mclr.settings.section import Count, Positive, Probability

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.contrast import Contrast
    from mclr.objectives.loss import Batch, LogLikelihood, Loss

ENTRY = Method(
    "cca",
    "+CCA",
    "#009e73",
    "v",
    "triangle-down",
    title="CCA",
    source="Eq. (159) of the MCLR paper",
    meaning="Noise-contrastive estimation: x_w is of the class, x_l of another.",
    equation=f"minimise  −E[ log σ(β r(x_w, c)) + λ log σ(−β r(x_l, c)) ],\n          {LOG_RATIO}",
    note=(
        "CCA, Eq. (159), an image x_w of class c and an image x_l of another:",
        "min −log σ(r(x_w, c)) − λ log σ(−r(x_l, c))",
        REWARD,
    ),
    trained=True,
    saturates=True,
)


class Cca(Objective):
    """Eq. (159); thu-ml/CCA drops labels with probability uncond_ratio (0.1 in its recipes)."""

    name: Literal["cca"]
    beta: Positive
    lam: Annotated[float, Field(gt=0, alias="lambda")]
    K: Count = 1
    uncond_ratio: Probability = 0.0
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )

    @property
    def needs(self) -> Needs:
        return Needs(partners=self.K, reference=True, dropped=self.uncond_ratio)

    def loss(self, given: Given, part: Tensor) -> Loss:
        likelihoods = given.policy, given.reference
        return cca_loss(self, *likelihoods, given.batch, given.contrast, part, given.dropped)


# Eq. (159), for one tuple; equal to thu-ml/CCA's loss_type "CCA".
def cca_tuple_loss(
    preferred: Tensor, other: Tensor, lam: float, unconditional: Tensor | None = None
) -> Tensor:
    """−log σ(r_w) − λ log σ(−r_l) of rewards r = β log p_θ/p_ref; broadcast shape of both.

    Where ``unconditional`` (bool, same shape), the label was dropped: x_l is then no negative, and
    both samples count as positive with weight 1.
    """
    import torch
    from torch.nn.functional import logsigmoid

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
    from mclr.objectives.loss import Loss, preference_log_ratios, preference_terms

    ratios = preference_log_ratios(policy, reference, batch, contrast, part)
    preferred, other = objective.beta * ratios.preferred, objective.beta * ratios.other
    dropped = None if unconditional is None else unconditional[part, None]
    return Loss(
        contrast.mean(cca_tuple_loss(preferred, other, objective.lam, dropped), part),
        preference_terms(preferred, other, contrast, part),
    )
