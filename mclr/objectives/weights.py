"""The adaptive weight of Theorem 3: how much likelier x_t is under a class than under all of them.

The weight of the pair (x, c̃) is r = p_t(x_t|c̃) / p_t(x_t). It belongs to the noisy x_t: with the
likelihoods of the clean x instead, the weighted objective has the plain conditional model as its
optimum, so nothing would be gained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mclr.errors import UserError


# p_t(x_t|c̃) / p_t(x_t) of Eq. (23), with p_t(x_t) = Σ_j p(c_j) p_t(x_t|c_j) over the candidates
def class_posterior_weights(
    log_likelihood: Tensor, priors: Tensor, clip: float, floor: float = 0.0
) -> Tensor:
    """Self-normalised ratios p(x_i|c_j) / p(x_i): (N, C), at most ``clip``, without gradient.

    Ratios below ``floor`` are set to 0. Where a class is all but impossible an estimate that is a
    little too large makes the weighted objective unbounded, so estimates need a floor.

    log_likelihood: log p_t(x_i|c_j) of C candidate labels (N, C), up to a constant per row.
    priors: what each candidate stands for, (C,) or (N, C): shares, counts or any multiple of
    them; 0 leaves a candidate out of p(x_i). ``priors`` (as shares) times the ratios is the
    posterior p(c_j|x_i). Equal values for all candidates give ratios of 1.

    Raises:
        UserError: ``clip`` is below 1, ``floor`` is not in [0, 1), or a row of priors is
            negative somewhere or 0 everywhere.
    """
    if not clip >= 1:
        raise UserError(f"clip {clip}: expected a largest ratio of at least 1; raise it")
    if not 0 <= floor < 1:
        raise UserError(f"floor {floor}: expected a ratio in [0, 1) below which weights are 0")
    weights = priors.to(log_likelihood).expand_as(log_likelihood)
    if bool((weights < 0).any()) or not bool((weights.sum(1) > 0).all()):
        raise UserError("priors: expected shares of at least 0 with a positive sum in each row")
    # Large log-likelihoods would lose the digits that tell the candidates apart.
    values = log_likelihood.detach() - log_likelihood.detach().amax(1, keepdim=True)
    log_prior = (weights / weights.sum(1, keepdim=True)).log()
    log_marginal = torch.logsumexp(values + log_prior, dim=1, keepdim=True)
    ratios = (values - log_marginal).exp().clamp(max=clip)
    return torch.where(ratios < floor, torch.zeros_like(ratios), ratios)
