"""Per-sample log-likelihoods ℓ_θ(x, c): the one quantity every objective is made of.

Diffusion has the one-draw denoising surrogate of Section 3.5, autoregressive models are exact.
A draw (σ, ε) is made once and shared by all the ℓ's that an objective compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mclr.device import move
from mclr.likelihood.masks import Masks

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (N, …), sigma (N,), labels (N,)) -> denoised (N, …)."""


@dataclass(frozen=True)
class Draw:
    """The randomness of ℓ for N samples: noise level σ (N,) and noise ε (N, C, H, W).

    Exact likelihoods need none: both are None. masks: of dropout; None: there is none. dial: values
    (N,) of the network's dial; None: what it is set to (``mclr.models.dial``).
    """

    sigma: Tensor | None = None
    epsilon: Tensor | None = None
    masks: Masks | None = None
    dial: Tensor | None = None

    def take(self, index: Tensor) -> Draw:
        """The draws of the rows ``index``."""
        masks = self.masks and self.masks.take(index)
        dial = None if self.dial is None else self.dial[index]
        if self.sigma is None or self.epsilon is None:
            return Draw(masks=masks, dial=dial)
        return Draw(self.sigma[index], self.epsilon[index], masks, dial)

    def to(self, device: torch.device) -> Draw:
        """This draw on ``device``."""
        masks = self.masks and self.masks.to(device)
        dial = None if self.dial is None else move(self.dial, device)
        if self.sigma is None or self.epsilon is None:
            return Draw(masks=masks, dial=dial)
        return Draw(move(self.sigma, device), move(self.epsilon, device), masks, dial)

    def join(self, other: Draw) -> Draw:
        """The draws of this batch followed by those of another."""
        masks = self.masks.join(other.masks) if self.masks and other.masks else None
        dial = None
        if self.dial is not None and other.dial is not None:
            dial = torch.cat([self.dial, other.dial])
        if None in (self.sigma, self.epsilon, other.sigma, other.epsilon):
            return Draw(self.sigma, self.epsilon, masks, dial)
        return Draw(
            torch.cat([self.sigma, other.sigma]),  # type: ignore[list-item]
            torch.cat([self.epsilon, other.epsilon]),  # type: ignore[list-item]
            masks,
            dial,
        )


def draw_noise(x: Tensor, P_mean: float, P_std: float, generator: torch.Generator) -> Draw:
    """One (σ, ε) for each row of ``x``: ln σ ~ N(P_mean, P_std²), ε ~ N(0, I).

    Made where the generator is, the CPU: equal on every device.
    """
    sigma = (torch.randn(len(x), generator=generator) * P_std + P_mean).exp()
    return Draw(sigma, torch.randn(x.shape, generator=generator)).to(x.device)


def noised(x: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """x + σε (N, C, H, W) and σ (N,) of images x; ValueError without a draw for each."""
    if draw.sigma is None or draw.epsilon is None:
        raise ValueError("denoising needs a noise draw for each sample")
    return x + draw.sigma.view(-1, 1, 1, 1) * draw.epsilon, draw.sigma


# w(σ) of Eq. (150); the paper leaves it open: EDM2's loss weight (σ² + σ_d²) / (σ σ_d)².
def noise_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Weight of each noise level; shape of ``sigma``."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


# One draw of Eq. (153): ℓ_θ(x, c) = −w(σ) ‖x − D_θ(x + σε; σ, c)‖²
def denoising_log_likelihood(
    denoise: Denoise,
    x: Tensor,
    labels: Tensor,
    draw: Draw,
    sigma_data: float,
) -> Tensor:
    """Surrogate log-likelihood (N,) of images x (N, C, H, W) under labels (N,)."""
    noisy, sigma = noised(x, draw)
    squared_error = (denoise(noisy, sigma, labels) - x).square().flatten(1).sum(1)
    return -noise_weight(sigma, sigma_data) * squared_error


# ℓ_θ(x, c) = Σ_l log p_θ(x_l | x_<l, c)
def token_log_likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """Exact log-likelihood (N,) of tokens (N, L) under logits (N, L, V)."""
    # At least float32: the softmax over V codes needs more digits than half precision has.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    cross_entropy = torch.nn.functional.cross_entropy
    return -cross_entropy(logits.transpose(1, 2), tokens, reduction="none").sum(1)


# ------------------------------------------------------------------ of noisy samples


@dataclass(frozen=True)
class LevelDraw:
    """The randomness of M draws for N samples: ``u`` (M, N) in (0, 1), ``epsilon`` (M, N, …)."""

    u: Tensor
    epsilon: Tensor


def draw_levels(x_t: Tensor, M: int, generator: torch.Generator) -> LevelDraw:
    """M draws for each row of x_t (N, …), one in each of M equal parts of (0, 1)."""
    inside = torch.rand((M, len(x_t)), generator=generator, dtype=x_t.dtype)
    part = torch.arange(M, dtype=x_t.dtype)[:, None]
    epsilon = torch.randn((M, *x_t.shape), generator=generator, dtype=x_t.dtype)
    return LevelDraw(move((part + inside) / M, x_t.device), move(epsilon, x_t.device))


# Eq. (6) with x_t as the data: −½ ∫ ‖∇ log p(x'|x_t) − s(x'; √(σ² + v))‖² dv over v > 0, where
# x' = x_t + √v ε; v = V u/(1 − u) with V = σ² + σ_d² has dv = V/(1 − u)² du.
@torch.no_grad()
def noise_level_log_likelihood(
    denoise: Denoise, x_t: Tensor, sigma: Tensor, labels: Tensor, draw: LevelDraw, sigma_data: float
) -> Tensor:
    """ELBO of log p_t(x_t|c), (N,), up to a constant that is the same for all labels.

    x_t (N, …) at noise levels sigma (N,); 2M passes of the network: each draw is used with +ε
    and −ε, which cancels most of the noise. Share ``draw`` between the labels to be compared.
    """
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    scale = sigma**2 + sigma_data**2
    total = torch.zeros_like(sigma)
    for u, epsilon in zip(draw.u, draw.epsilon, strict=True):
        v = scale * u / (1 - u)
        level = (sigma**2 + v).sqrt()
        for signed in (epsilon, -epsilon):
            noisy = x_t + v.sqrt().view(shape) * signed
            score = (denoise(noisy, level, labels) - noisy) / (level**2).view(shape)
            # ‖target − s‖² less ‖target‖², which no label changes; the target is −ε/√v.
            error = score * (score + 2 * signed / v.sqrt().view(shape))
            total -= error.flatten(1).sum(1) * scale / (1 - u) ** 2 / 4
    return total / len(draw.u)
