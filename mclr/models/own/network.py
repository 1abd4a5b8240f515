"""Families of networks that somebody else wrote, for ``mclr.finetune``: likelihoods, no sampling.

Such a network is either a denoiser D(x; σ, c), called as ``net(noisy, sigma, labels)``, or has a
method ``log_likelihood(x, labels)``. It is drawn from by code of its author.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.likelihood import (
    Denoise,
    Draw,
    LevelDraw,
    denoising_log_likelihood,
    draw_noise,
    noise_level_log_likelihood,
    noised,
)
from mclr.likelihood.prediction import Denoised
from mclr.models.family import Family
from mclr.settings.section import NoiseLevels

EDM_NOISE = NoiseLevels(P_mean=-1.2, P_std=1.2)
"""Karras et al. 2022 (arXiv 2206.00364), Table 1: ln σ of training for images in [−1, 1]."""
EDM_SIGMA_DATA = 0.5
"""Standard deviation of such images, by the same table."""


class GivenFamily(Family):
    """What both kinds share: weights come with the network, and its sampler is its author's."""

    def __init__(self, net: nn.Module) -> None:
        self.device = next((p.device for p in net.parameters()), torch.device("cpu"))

    def build(self, generator: torch.Generator) -> nn.Module:
        raise UserError("a network of your own is not built here; give it with its weights")

    def generate(
        self,
        net: nn.Module,
        seeds: Sequence[int],
        labels: Tensor,
        guidance: float,
        *,
        guide: nn.Module | None = None,
        interval: tuple[float, float] | None = None,
    ) -> Tensor:
        raise UserError("a network of your own is drawn from with its own sampler")


class Likelihoods(GivenFamily):
    """A network with a method ``log_likelihood(x, labels)`` -> log p(x|c), (N,)."""

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        found = net.log_likelihood(x, labels)  # type: ignore[operator]
        return _checked(found, (len(x),), "net.log_likelihood(x, labels)")


class Denoisers(GivenFamily):
    """A denoiser D(x; σ, c), called as ``net(noisy, sigma, labels)``.

    noisy (N, …) is an image plus σε, sigma (N,) in units of the images, labels (N,) int64; it
    gives the denoised image, (N, …). noise: p(σ) of fine-tuning. sigma_data: standard deviation of
    the images, of the weight w(σ).
    """

    has_noise_levels = True

    def __init__(
        self,
        net: nn.Module,
        noise: NoiseLevels = EDM_NOISE,
        sigma_data: float = EDM_SIGMA_DATA,
    ) -> None:
        super().__init__(net)
        self.noise, self.sigma_data = noise, sigma_data

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        return draw_noise(x, self.noise.P_mean, self.noise.P_std, generator)

    # One draw of Eq. (153), as for the families of this package.
    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return denoising_log_likelihood(_denoiser(net), x, labels, draw, self.sigma_data)

    def predict(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Denoised:
        noisy, sigma = noised(x, draw)
        return Denoised(_denoiser(net)(noisy, sigma, labels), sigma, self.sigma_data)

    def noisy_log_likelihood(
        self, net: nn.Module, x_t: Tensor, sigma: Tensor, labels: Tensor, draw: LevelDraw
    ) -> Tensor:
        return noise_level_log_likelihood(_denoiser(net), x_t, sigma, labels, draw, self.sigma_data)


def _denoiser(net: nn.Module) -> Denoise:
    """The network as a function; it raises UserError where that gives something else."""

    def denoise(noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return _checked(net(noisy, sigma, labels), noisy.shape, "net(noisy, sigma, labels)")

    return denoise


def _checked(found: object, shape: Sequence[int], what: str) -> Tensor:
    if not isinstance(found, Tensor) or found.shape != tuple(shape):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(f"{what} gave {got}; expected a tensor of shape {tuple(shape)}")
    return found
