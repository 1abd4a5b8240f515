"""EDM2 as a model family: pixels or latents, denoising surrogate, Heun sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.device import CPU, fused
from mclr.errors import UserError
from mclr.likelihood import Denoise, Draw, noise_weight, noised
from mclr.models.denoising import DenoisingFamily
from mclr.models.dial import Dial
from mclr.models.edm2.config import (
    SD_VAE,
    AutoencoderArchitecture,
    Edm2Base,
    Edm2Network,
    Edm2Sampler,
)
from mclr.models.edm2.encoders import StabilityVaeEncoder
from mclr.models.edm2.latents import LatentAutoencoder
from mclr.models.edm2.precond import Frozen, Precond, build
from mclr.models.edm2.sampler import ConditionalDenoiser
from mclr.models.pixels import RgbEncoder
from mclr.models.precision import NARROW, check_precision, resolve_precision
from mclr.models.recipe import Recipe, edm2_learning_rate
from mclr.models.replay import can_record
from mclr.settings.section import NoiseLevels


class Edm2Family(DenoisingFamily):
    """See ``mclr.models.family.Family``.

    x is pixels in [−1, 1], or draws of the latents of an ``autoencoder`` with its weights.
    """

    has_masks = True
    has_dial = True
    official = "edm2"

    def __init__(
        self,
        architecture: dict[str, Any],
        manifest: Manifest,
        noise: dict[str, Any] | None,
        sampler: dict[str, Any] | None,
        precision: str = "float32",
        device: torch.device = CPU,
        autoencoder: Path | None = None,
        decoding: str = "float32",
    ) -> None:
        self.device, self.precision = device, check_precision(precision)
        architecture = dict(architecture)
        latents = architecture.pop("autoencoder", None)
        unconditional = architecture.pop("unconditional", False)
        self.latents = _latents(latents, autoencoder, manifest, precision, device, decoding)
        self.shape = self.latents.shape_of(manifest) if self.latents else manifest.shape
        self.classes = manifest.num_classes
        self.config = Edm2Network(
            **architecture,
            img_resolution=self.shape[1],
            img_channels=self.shape[0],
            label_dim=0 if unconditional else self.classes,
        )
        self.sigma_data = self.config.sigma_data
        self.noise = NoiseLevels.model_validate(noise) if noise else None
        self.sampler = Edm2Sampler.model_validate(sampler) if sampler else None

    def build(self, generator: torch.Generator) -> nn.Module:
        return build(self.config, generator)

    def encode(self, images: Tensor) -> Tensor:
        if self.latents is None:
            return RgbEncoder().encode_latents(images)
        return self.latents.encode_pixels(images).cpu()

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        if self.latents is None:
            return RgbEncoder().encode_latents(rows) if rows.dtype == torch.uint8 else rows
        return self.latents.encode_latents(rows, generator)

    def decode(self, x: Tensor) -> Tensor:
        return (self.latents or RgbEncoder()).decode(x)

    # Karras et al. (arXiv 2312.02696), Eq. 14–15: w(σ)/e^u ‖D − x‖² + u per pixel, summed.
    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        noisy, sigma = noised(x, draw)
        denoiser = self._denoiser(net, x.device)
        denoised, u = denoiser(noisy, sigma, self.one_hot(labels), return_logvar=True)
        weight = noise_weight(sigma, self.config.sigma_data).view(-1, 1, 1, 1)
        loss: Tensor = weight / u.exp() * (denoised - x).square() + u
        return loss.sum() / len(x)

    # Karras et al. (arXiv 2312.02696): Adam, inverse square root decay, an average of the weights.
    def recipe(self, net: nn.Module, settings: Edm2Base) -> Recipe:
        def learning_rate(step: int) -> float:
            return edm2_learning_rate(
                step,
                settings.batch,
                lr=settings.lr,
                decay_steps=settings.lr_decay_steps,
                rampup_images=settings.rampup_images,
            )

        optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99), fused=fused(self.device))
        return Recipe(optimizer, learning_rate, settings.ema_std, settings.label_noise)

    def after_step(self, net: nn.Module) -> None:
        cast(Precond, net).normalize_weights_()

    def frozen(self, net: nn.Module) -> nn.Module:
        if isinstance(net, Frozen):
            return net
        return cast(Precond, net).frozen(self.dtype(next(net.parameters()).device))

    def dtype(self, device: torch.device) -> torch.dtype:
        """The type of activations on ``device``."""
        wide = self.config.model_channels >= NARROW["edm2"]
        return resolve_precision(self.precision, device, wide=wide)

    def with_dial(self, net: nn.Module) -> nn.Module:
        unet = cast(Precond, net).unet
        unet.dial = Dial(unet.width).to(self.device)
        return net

    def _denoise(self, net: nn.Module, device: torch.device, draw: Draw | None = None) -> Denoise:
        denoiser = self._denoiser(net, device)
        if draw and draw.masks is not None:
            denoiser = partial(denoiser, masks=draw.masks)
        if draw and draw.dial is not None:
            denoiser = partial(denoiser, dial=draw.dial)
        return lambda noisy, sigma, labels: denoiser(noisy, sigma, self.one_hot(labels))

    def _denoiser(self, net: nn.Module, device: torch.device) -> Callable[..., Any]:
        """The network at this family's precision; a frozen one has its own."""
        dtype = self.dtype(device)
        if isinstance(net, Frozen) or dtype == torch.float32:
            return net
        return partial(net, dtype=dtype)

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
        if self.sampler is None:
            raise ValueError("sampler settings are needed to generate")
        condition = self.one_hot(labels.to(self.device))
        strong, weak = self._sampled(net), self._sampled(guide) if guide else None
        return self.heun(self.sampler, strong, weak, condition, seeds, guidance, interval)

    def _sampled(self, net: nn.Module) -> ConditionalDenoiser:
        """A network as samplers call it, many times alike: recorded on a GPU if it stays."""
        fixed = cast(Frozen, self.frozen(net))
        stays = fixed is net and can_record(self.device)
        return cast(ConditionalDenoiser, fixed.replayed if stays else fixed)

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels (N,) to (N, num_classes); the null label ``num_classes`` is a row of zeros."""
        return nn.functional.one_hot(labels, self.classes + 1)[:, : self.classes].float()


def _latents(
    architecture: dict[str, Any] | str | None,
    weights: Path | None,
    manifest: Manifest,
    precision: str,
    device: torch.device,
    decoding: str,
) -> LatentAutoencoder | StabilityVaeEncoder | None:
    """The autoencoder of a model of latents; None for one of pixels."""
    if architecture is None:
        return None
    if weights is None:
        raise UserError("a model of latents needs its autoencoder's weights: give --tokenizer")
    if architecture == SD_VAE:
        return StabilityVaeEncoder(weights, device, decoding=decoding)
    settings = AutoencoderArchitecture.model_validate(architecture)
    return LatentAutoencoder(settings, manifest, weights, precision, device)
