"""What families of denoisers share: the one-draw likelihood surrogate, and Heun sampling."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mclr.device import move
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
from mclr.models.edm2.config import Edm2Sampler
from mclr.models.edm2.sampler import (
    ConditionalDenoiser,
    guided_denoiser,
    heun_sample,
    within_interval,
)
from mclr.models.family import Family
from mclr.models.seeded import seeded_noise
from mclr.settings.section import NoiseLevels


class DenoisingFamily(Family):
    """x (N, C, H, W) is pixels or latents of deviation ``sigma_data``."""

    guided_by = frozenset({"null", "network", "interval"})
    has_noise_levels = True
    noise: NoiseLevels | None
    shape: tuple[int, int, int]
    sigma_data: float

    @abstractmethod
    def _denoise(self, net: nn.Module, device: torch.device, draw: Draw | None = None) -> Denoise:
        """The network as a function of noisy images, noise levels and labels."""

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        if self.noise is None:
            raise ValueError("noise levels P_mean, P_std are needed to draw noise")
        return draw_noise(x, self.noise.P_mean, self.noise.P_std, generator)

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        denoise = self._denoise(net, x.device, draw)
        return denoising_log_likelihood(denoise, x, labels, draw, self.sigma_data)

    def predict(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Denoised:
        noisy, sigma = noised(x, draw)
        denoised = self._denoise(net, x.device, draw)(noisy, sigma, labels)
        return Denoised(denoised, sigma, self.sigma_data)

    def noisy_log_likelihood(
        self, net: nn.Module, x_t: Tensor, sigma: Tensor, labels: Tensor, draw: LevelDraw
    ) -> Tensor:
        """log p_t(x_t|c) of noisy x_t (N, …) at levels sigma (N,), up to a constant per row."""
        denoise = self._denoise(net, x_t.device)
        return noise_level_log_likelihood(denoise, x_t, sigma, labels, draw, self.sigma_data)

    def heun(
        self,
        sampler: Edm2Sampler,
        strong: ConditionalDenoiser,
        weak: ConditionalDenoiser | None,
        condition: Tensor,
        seeds: Sequence[int],
        guidance: float,
        interval: tuple[float, float] | None,
    ) -> Tensor:
        """Samples by EDM2's sampler; condition: labels as rows (N, classes), zeros for none."""
        denoise = guided_denoiser(strong, condition, guidance, weak, condition if weak else None)
        if interval:
            denoise = within_interval(denoise, guided_denoiser(strong, condition, 0.0), interval)
        streams = iter(range(1, 2 * sampler.num_steps))
        return heun_sample(
            denoise,
            move(seeded_noise(seeds, self.shape), self.device),
            **sampler.model_dump(),
            randn=lambda x: seeded_noise(seeds, self.shape, next(streams)),
        )
