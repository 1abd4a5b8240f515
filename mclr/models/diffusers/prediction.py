"""What networks of diffusers predict, as denoisers D_θ(x; σ, c) of x + σε.

Such a network sees x_t = a (x + σε) with a = 1/√(1 + σ²) (variance preserving: DDPM, DDIM) or
a = 1/(1 + σ) (flow matching), and a time t; it predicts noise, image, or a velocity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from mclr.errors import UserError

ToDenoised = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy x + σε (N, …), prediction (N, …), sigma, of a shape to multiply with) -> D (N, …)."""
ToTarget = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (N, …), ε (N, …), sigma) -> what a perfect network predicts (N, …)."""


# ------------------------------------------------------------------ predictions to denoisers


# Ho et al. (arXiv 2006.11239), Eq. 9–12, for x + σε = x_t / √ᾱ: D = (x + σε) − σ ε_θ
def denoised_by_epsilon(noisy: Tensor, epsilon: Tensor, sigma: Tensor) -> Tensor:
    """D of a network that predicts the noise ε."""
    return noisy - sigma * epsilon


# D = x_θ
def denoised_by_sample(noisy: Tensor, sample: Tensor, sigma: Tensor) -> Tensor:
    """D of a network that predicts the image itself."""
    return sample


# Salimans & Ho (arXiv 2202.00512), appendix D: v = √ᾱ ε − √(1 − ᾱ) x, so x = √ᾱ x_t − √(1 − ᾱ) v;
# with ᾱ = 1/(1 + σ²): D = (x + σε)/(1 + σ²) − σ/√(1 + σ²) v_θ
def denoised_by_v(noisy: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """D of a network that predicts the velocity v of a variance preserving schedule."""
    variance = 1 + sigma.square()
    return noisy / variance - sigma * variance.rsqrt() * v


# Lipman et al. (arXiv 2210.02747), Liu et al. (arXiv 2209.03003): x_t = (1 − t) x + t ε, v = ε − x,
# so x = x_t − t v; with t = σ/(1 + σ): D = ((x + σε) − σ v_θ)/(1 + σ)
def denoised_by_flow(noisy: Tensor, flow: Tensor, sigma: Tensor) -> Tensor:
    """D of a network that predicts the velocity ε − x of flow matching."""
    return (noisy - sigma * flow) / (1 + sigma)


DENOISED: dict[str, ToDenoised] = {
    "epsilon": denoised_by_epsilon,
    "sample": denoised_by_sample,
    "v_prediction": denoised_by_v,
    "flow_prediction": denoised_by_flow,
}
"""By diffusers' ``prediction_type``."""


# ------------------------------------------------------------------ what a network is trained on


# v = √ᾱ ε − √(1 − ᾱ) x with ᾱ = 1/(1 + σ²)
def v_target(x: Tensor, epsilon: Tensor, sigma: Tensor) -> Tensor:
    """The velocity v of a variance preserving schedule."""
    return (epsilon - sigma * x) * (1 + sigma.square()).rsqrt()


TARGET: dict[str, ToTarget] = {
    "epsilon": lambda x, epsilon, sigma: epsilon,
    "sample": lambda x, epsilon, sigma: x,
    "v_prediction": v_target,
    "flow_prediction": lambda x, epsilon, sigma: epsilon - x,
}
"""The same: what a network of that type is trained to predict."""


# ------------------------------------------------------------------ noise levels and times


class Levels(ABC):
    """Noise levels σ, the times t that a network is told, and the scale a of what it sees."""

    @abstractmethod
    def time_of(self, sigma: Tensor) -> Tensor:
        """t of levels σ > 0, float32 of the same shape; beyond the schedule, its ends."""

    @abstractmethod
    def sigma_of(self, time: Tensor) -> Tensor:
        """σ of times t, the inverse within the schedule."""

    @abstractmethod
    def scale_of(self, sigma: Tensor) -> Tensor:
        """a of x_t = a (x + σε)."""


class VpLevels(Levels):
    """A schedule of discrete steps t = 0, 1, …: σ_t = √((1 − ᾱ_t)/ᾱ_t), between them by ln σ.

    alphas_cumprod: ᾱ_t (T,), falling. Steps of pure noise (ᾱ_t = 0) have no finite σ and are left
    out.
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        alphas = alphas_cumprod.double().cpu()
        levels = ((1 - alphas) / alphas).sqrt().log()
        self.logs = levels[levels.isfinite()]
        if len(self.logs) < 2 or bool((self.logs.diff() <= 0).any()):
            raise UserError(
                "scheduler: its noise does not grow with its steps; expected betas between 0 and 1"
            )

    def time_of(self, sigma: Tensor) -> Tensor:
        logs = self.logs.to(sigma.device)
        wanted = sigma.double().log().clamp(logs[0], logs[-1])
        above = torch.searchsorted(logs, wanted.contiguous()).clamp(1, len(logs) - 1)
        low, high = logs[above - 1], logs[above]
        return (above - 1 + (wanted - low) / (high - low)).float()

    def sigma_of(self, time: Tensor) -> Tensor:
        logs = self.logs.to(time.device)
        wanted = time.double().clamp(0, len(logs) - 1)
        below = wanted.floor().long().clamp(max=len(logs) - 2)
        return torch.lerp(logs[below], logs[below + 1], wanted - below).exp().float()

    def scale_of(self, sigma: Tensor) -> Tensor:
        return (1 + sigma.square()).rsqrt()


class FlowLevels(Levels):
    """Flow matching, x_t = (1 − t) x + t ε: σ = t/(1 − t), and the network is told T·t.

    steps: T, diffusers' ``num_train_timesteps``.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def time_of(self, sigma: Tensor) -> Tensor:
        return self.steps * sigma / (1 + sigma)

    def sigma_of(self, time: Tensor) -> Tensor:
        return time / (self.steps - time)

    def scale_of(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)
