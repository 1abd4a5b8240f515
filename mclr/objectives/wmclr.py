"""Weighted MCLR: the objective whose optimum is the CFG score (Theorem 3), made practical."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mclr.objectives.method import Method
from mclr.objectives.objective import Given, Needs, Objective
from mclr.settings.section import Count, Positive, Probability

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.contrast import Contrast
    from mclr.objectives.loss import Batch, LogLikelihood, Loss, NoisyLikelihood

ENTRY = Method(
    "wmclr",
    "+wMCLR",
    "#882255",
    "*",
    "star",
    title="weighted MCLR",
    source="Eq. (23) and Theorem 3 of the MCLR paper; β is `dsm`",
    meaning="MCLR weighted so that its optimum is the score of classifier-free guidance at "
    "γ = 1/β.",
    equation="minimise  −E[ (1 − p(c)) ρ (ℓ_θ(x, c) − ℓ_θ(x, c̃)) ] − β E[ ℓ_θ(x, c) ],\n"
    "          ρ = p_t(x_t|c̃) / p_t(x_t)",
    note=(
        "Weighted MCLR, Eq. (23), whose optimum is the CFG score at γ = 1/β, β = `dsm`:",
        "min −mean_k (1 − p(c)) r_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)] − β ℓ_θ(x, c)",
        "r_k = p_t(x_t|c̃_k) / p_t(x_t), estimated with the frozen base model.",
    ),
    trained=True,
)


class Wmclr(Objective):
    """Theorem 3's weighted objective, Eq. (23): its optimum is the CFG score at γ = 1/dsm.

    The ratio p_t(x_t|c̃)/p_t(x_t) is estimated with ``draws`` draws, two evaluations of the base
    model each and per label; at most ``clip``, and 0 below ``floor``.
    """

    name: Literal["wmclr"]
    dsm: Positive
    K: Count = 4
    draws: Count = 4
    floor: Probability = 0.2
    clip: Annotated[float, Field(ge=1)] = 10.0

    @property
    def needs(self) -> Needs:
        return Needs(partners=self.K, noisy=self.draws)

    def loss(self, given: Given, part: Tensor) -> Loss:
        noisy, priors = given.noisy_likelihood, given.priors
        return wmclr_loss(self, given.policy, noisy, priors, given.batch, given.contrast, part)


# Eq. (23) with partners of other classes, for which its proof needs the factor (1 − p(c)) r before
# the whole difference (docs/theory.md, weighted-difference).
def wmclr_loss(
    objective: Wmclr,
    policy: LogLikelihood,
    noisy_likelihood: NoisyLikelihood,
    priors: Tensor,
    batch: Batch,
    contrast: Contrast,
    part: Tensor,
) -> Loss:
    """−mean (1 − p(c)) r_k [ℓ(x, c) − ℓ(x, c̃_k)] − β mean ℓ(x, c), r_k = p_t(x_t|c̃_k) / p_t(x_t).

    Its optimum is the CFG score at γ = 1/β, β being ``objective.dsm``. Share of the samples
    ``part`` (P,). r is estimated over the labels of the sample and its K partners, which stand
    for all other classes, and has no gradient.

    Args:
        noisy_likelihood: of the noisy samples, from the frozen base model.
        priors: p(c) of each class, (classes,).
    """
    import torch

    from mclr.objectives.loss import Loss, term
    from mclr.objectives.weights import class_posterior_weights

    K, P, N = contrast.K, len(part), len(batch.labels)
    own, others = batch.labels[part], batch.labels[contrast.index[part]]
    share = priors[own][:, None]
    candidates = torch.cat([own[:, None], others], dim=1)
    ratio = class_posterior_weights(
        noisy_likelihood(candidates, part),
        torch.cat([share, ((1 - share) / K).expand(P, K)], dim=1),
        objective.clip,
        objective.floor,
    )[:, 1:]
    owner = torch.cat([part, part.repeat_interleave(K)])
    labels = torch.cat([own, others.flatten()])
    positive, negative = policy(batch.x[owner], labels, batch.draw.take(owner)).split([P, P * K])
    log_ratio = positive[:, None] - negative.view(P, K)
    weight = (1 - share) * ratio
    likelihood = positive.sum() / N
    return Loss(
        -contrast.mean(weight * log_ratio, part) - objective.dsm * likelihood,
        {
            "log_likelihood": term(likelihood),
            "log_ratio": term(contrast.mean(log_ratio, part)),
            "weight": term(contrast.mean(weight, part)),
            "accuracy": contrast.mean((log_ratio > 0).double(), part),
        },
    )
