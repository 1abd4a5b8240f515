"""Per-sample log-likelihoods ℓ_θ(x, c): the one quantity every objective is made of.

Diffusion has the one-draw denoising surrogate of Section 3.5, autoregressive models are exact.
A draw (σ, ε) is made once and shared by all the ℓ's that an objective compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """The randomness of ℓ for N samples: noise level σ (N,) and noise ε (N, C, H, W).

    Exact likelihoods need none: both are None.
    """

    sigma: Tensor | None = None
    epsilon: Tensor | None = None

    def take(self, index: Tensor) -> Draw:
        """The draws of the rows ``index``."""
        if self.sigma is None or self.epsilon is None:
            return self
        return Draw(self.sigma[index], self.epsilon[index])

    def join(self, other: Draw) -> Draw:
        """The draws of this batch followed by those of another."""
        if None in (self.sigma, self.epsilon, other.sigma, other.epsilon):
            return self
        return Draw(
            torch.cat([self.sigma, other.sigma]),  # type: ignore[list-item]
            torch.cat([self.epsilon, other.epsilon]),  # type: ignore[list-item]
        )


def draw_noise(x: Tensor, P_mean: float, P_std: float, generator: torch.Generator) -> Draw:
    """One (σ, ε) for each row of ``x``: ln σ ~ N(P_mean, P_std²), ε ~ N(0, I)."""
    sigma = (torch.randn(len(x), generator=generator) * P_std + P_mean).exp()
    return Draw(sigma, torch.randn(x.shape, generator=generator))


# w(σ) of Eq. (150); the paper leaves it open: EDM2's loss weight (σ² + σ_d²) / (σ σ_d)².
def noise_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Weight of each noise level; shape of ``sigma``."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


# One draw of Eq. (153): ℓ_θ(x, c) = −w(σ) ‖x − D_θ(x + σε; σ, c)‖²
def denoising_log_likelihood(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    draw: Draw,
    sigma_data: float,
) -> Tensor:
    """Surrogate log-likelihood (N,) of images x (N, C, H, W) under labels (N,)."""
    if draw.sigma is None or draw.epsilon is None:
        raise ValueError("the denoising likelihood needs a noise draw for each sample")
    noisy = x + draw.sigma.view(-1, 1, 1, 1) * draw.epsilon
    squared_error = (denoise(noisy, draw.sigma, labels) - x).square().flatten(1).sum(1)
    return -noise_weight(draw.sigma, sigma_data) * squared_error


# ℓ_θ(x, c) = Σ_l log p_θ(x_l | x_<l, c)
def token_log_likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """Exact log-likelihood (N,) of tokens (N, L) under logits (N, L, V)."""
    # At least float32: the softmax over V codes needs more digits than half precision has.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    cross_entropy = torch.nn.functional.cross_entropy
    return -cross_entropy(logits.transpose(1, 2), tokens, reduction="none").sum(1)
