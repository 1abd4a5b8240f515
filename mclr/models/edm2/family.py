"""EDM2 as a model family: pixels in [−1, 1], denoising surrogate, Heun sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mclr.config import Edm2Sampler, NoiseLevels
from mclr.data.load import Manifest
from mclr.likelihood import (
    Draw,
    LevelDraw,
    denoising_log_likelihood,
    draw_noise,
    noise_level_log_likelihood,
    noise_weight,
)
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Frozen, Precond, build
from mclr.models.precision import check_precision, resolve_precision
from mclr.sampling.edm2 import guided_denoiser, heun_sample, seeded_noise


class Edm2Family:
    """See ``mclr.models.family.Family``."""

    def __init__(
        self,
        architecture: dict[str, Any],
        manifest: Manifest,
        noise: dict[str, Any] | None,
        sampler: dict[str, Any] | None,
        precision: str = "float32",
    ) -> None:
        self.config = Edm2Network(
            **architecture,
            img_resolution=manifest.resolution,
            img_channels=manifest.channels,
            label_dim=manifest.num_classes,
        )
        self.shape = manifest.shape
        self.noise = NoiseLevels.model_validate(noise) if noise else None
        self.sampler = Edm2Sampler.model_validate(sampler) if sampler else None
        self.precision = check_precision(precision)

    def build(self, generator: torch.Generator) -> nn.Module:
        return build(self.config, generator)

    def encode(self, images: Tensor) -> Tensor:
        return images.float() / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8)

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        if self.noise is None:
            raise ValueError("noise levels P_mean, P_std are needed to draw noise")
        return draw_noise(x, self.noise.P_mean, self.noise.P_std, generator)

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        denoiser = self._denoiser(net, x.device)

        def denoise(noisy: Tensor, sigma: Tensor, classes: Tensor) -> Tensor:
            return cast(Tensor, denoiser(noisy, sigma, self.one_hot(classes)))

        return denoising_log_likelihood(denoise, x, labels, draw, self.config.sigma_data)

    def noisy_log_likelihood(
        self, net: nn.Module, x_t: Tensor, sigma: Tensor, labels: Tensor, draw: LevelDraw
    ) -> Tensor:
        """log p_t(x_t|c) of noisy x_t (N, …) at levels sigma (N,), up to a constant per row."""
        denoiser = self._denoiser(net, x_t.device)

        def denoise(noisy: Tensor, level: Tensor, classes: Tensor) -> Tensor:
            return cast(Tensor, denoiser(noisy, level, self.one_hot(classes)))

        return noise_level_log_likelihood(denoise, x_t, sigma, labels, draw, self.config.sigma_data)

    # Karras et al. (arXiv 2312.02696), Eq. 14–15: w(σ)/e^u ‖D − x‖² + u per pixel, summed.
    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        if draw.sigma is None or draw.epsilon is None:
            raise ValueError("denoising score matching needs a noise draw")
        noisy = x + draw.sigma.view(-1, 1, 1, 1) * draw.epsilon
        denoiser = self._denoiser(net, x.device)
        denoised, u = denoiser(noisy, draw.sigma, self.one_hot(labels), return_logvar=True)
        weight = noise_weight(draw.sigma, self.config.sigma_data).view(-1, 1, 1, 1)
        loss: Tensor = weight / u.exp() * (denoised - x).square() + u
        return loss.sum() / len(x)

    def after_step(self, net: nn.Module) -> None:
        cast(Precond, net).normalize_weights_()

    def frozen(self, net: nn.Module) -> nn.Module:
        if isinstance(net, Frozen):
            return net
        device = next(net.parameters()).device
        return cast(Precond, net).frozen(resolve_precision(self.precision, device))

    def _denoiser(self, net: nn.Module, device: torch.device) -> Callable[..., Any]:
        """The network at this family's precision; a frozen one has its own."""
        dtype = resolve_precision(self.precision, device)
        if isinstance(net, Frozen) or dtype == torch.float32:
            return net
        return partial(net, dtype=dtype)

    def generate(
        self, net: nn.Module, seeds: Sequence[int], labels: Tensor, guidance: float
    ) -> Tensor:
        if self.sampler is None:
            raise ValueError("sampler settings are needed to generate")
        noise = seeded_noise(seeds, self.shape)
        streams = iter(range(1, 2 * self.sampler.num_steps))
        fixed = cast(Frozen, self.frozen(net))
        denoise = guided_denoiser(fixed, self.one_hot(labels), guidance)
        return heun_sample(
            denoise,
            noise,
            **self.sampler.model_dump(),
            randn=lambda x: seeded_noise(seeds, self.shape, next(streams)),
        )

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels (N,) to (N, num_classes); the null label ``num_classes`` is a row of zeros."""
        classes = self.config.label_dim
        return nn.functional.one_hot(labels, classes + 1)[:, :classes].float()
