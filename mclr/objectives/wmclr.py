"""Weighted MCLR: the objective whose optimum is the CFG score (Theorem 3), made practical."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mclr.config.objectives import Wmclr
from mclr.objectives.base import Batch, LogLikelihood, Loss, term
from mclr.objectives.contrast import Contrast
from mclr.objectives.weights import class_posterior_weights

NoisyLikelihood = Callable[[Tensor, Tensor], Tensor]
"""(candidate labels (P, C), rows of the minibatch (P,)) -> log p_t(x_t|c) (P, C), up to a
constant per row."""


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
