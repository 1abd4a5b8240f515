"""Latents of an autoencoder that is trained in the pipeline: the network, and its use.

The network is diffusers' ``AutoencoderKL`` without attention. Its file holds its weights and the
mean and deviation of the latents of the training images, per channel.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.extras import require
from mclr.files import load_tensors
from mclr.models.edm2.config import AutoencoderArchitecture
from mclr.models.edm2.encoders import FINAL_STD, draw_latents
from mclr.models.pixels import RgbEncoder
from mclr.models.precision import autocast
from mclr.models.weights import load_weights

STATISTICS = ("latents.mean", "latents.std")
"""Tensors (latent channels,) beside the weights."""
BATCH = 100
"""Images that go through the network at once: at 32×32 more are slower on a CPU."""


def latent_shape(architecture: AutoencoderArchitecture, manifest: Manifest) -> tuple[int, int, int]:
    """Shape of the latents of one image: (latent channels, h, w).

    Raises:
        UserError: the side of the images cannot be halved that often.
    """
    factor = 2 ** (len(architecture.channels) - 1)
    if manifest.resolution % factor:
        raise UserError(
            f"autoencoder.network.channels: {len(architecture.channels)} levels halve the side "
            f"{len(architecture.channels) - 1} times, but images have {manifest.resolution} "
            f"pixels; use fewer levels, or a resolution that is a multiple of {factor}"
        )
    side = manifest.resolution // factor
    return architecture.latent_channels, side, side


def build_autoencoder(
    architecture: AutoencoderArchitecture, channels: int, generator: Generator
) -> nn.Module:
    """diffusers' ``AutoencoderKL`` for images of ``channels`` channels, with random weights.

    Raises:
        UserError: the groups of the normalisation do not divide the channels.
    """
    widths, groups = architecture.channels, architecture.norm_groups
    if any(width % groups for width in widths):
        raise UserError(
            f"autoencoder.network.norm_groups: {groups} must divide each of the channels {widths}"
        )
    require("diffusers")
    from diffusers import AutoencoderKL

    # diffusers draws from torch's own generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        net = cast(Any, AutoencoderKL)(
            in_channels=channels,
            out_channels=channels,
            down_block_types=["DownEncoderBlock2D"] * len(widths),
            up_block_types=["UpDecoderBlock2D"] * len(widths),
            block_out_channels=widths,
            layers_per_block=architecture.layers_per_block,
            latent_channels=architecture.latent_channels,
            norm_num_groups=groups,
            mid_block_add_attention=False,
        )
    return cast(nn.Module, net)


def posterior(net: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (N, c, h, w), float32, of q(z|image), of pixels in [−1, 1]."""
    mean, log_variance = net.encode(pixels).latent_dist.parameters.float().chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


# Kingma & Welling (arXiv 1312.6114), appendix B: KL(q(z|image) ‖ N(0, I))
def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of each image, (N,), in nats; summed over its latents."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3))


@torch.no_grad()
def encode_moments(
    net: Any, pixels: Tensor, precision: str, device: torch.device, batch: int = BATCH
) -> Tensor:
    """Mean and deviation of each latent, (N, 2c, h, w), float32, of uint8 images (N, C, H, W)."""
    found = []
    for part in pixels.split(batch):
        x = RgbEncoder().encode_latents(part.to(device))
        with autocast(precision, device):
            mean, log_variance = posterior(net, x)
        found.append(torch.cat([mean, (log_variance / 2).exp()], dim=1))
    return torch.cat(found)


def latent_statistics(raw: Tensor) -> dict[str, Tensor]:
    """Mean and deviation of draws of the latents, per channel, from raw ones (N, 2c, h, w)."""
    mean, std = raw.double().chunk(2, dim=1)
    variance = mean.var((0, 2, 3), correction=0) + std.square().mean((0, 2, 3))
    return dict(
        zip(STATISTICS, (mean.mean((0, 2, 3)).float(), variance.sqrt().float()), strict=True)
    )


class LatentAutoencoder:
    """An ``Encoder`` (``edm2.encoders``); latents x (N, c, h, w) of deviation 0.5 per channel.

    weights: the file that its training wrote; the network is made when an image is first encoded
    or decoded, so stored latents need no diffusers. batch: images that go through it at once.
    """

    def __init__(
        self,
        architecture: AutoencoderArchitecture,
        manifest: Manifest,
        weights: Path,
        precision: str = "float32",
        device: torch.device | str = "cpu",
        batch: int = BATCH,
    ) -> None:
        self.architecture, self.channels, self.weights = architecture, manifest.channels, weights
        self.precision, self.device, self.batch = precision, torch.device(device), batch
        self.tensors, _ = load_tensors(weights)
        if not set(STATISTICS) <= self.tensors.keys():
            raise UserError(
                f"{weights}: no mean and deviation of the latents, so this is not an autoencoder "
                "of this pipeline; delete it and run `snakemake` again"
            )
        mean, std = (self.tensors.pop(name).view(-1, 1, 1) for name in STATISTICS)
        self.scale = FINAL_STD / std
        self.bias = -mean * self.scale

    def shape_of(self, manifest: Manifest) -> tuple[int, int, int]:
        """Shape (c, h, w) of the latents of one image."""
        return latent_shape(self.architecture, manifest)

    @cached_property
    def net(self) -> Any:
        """The autoencoder; UserError if its weights are of another architecture."""
        net = build_autoencoder(self.architecture, self.channels, Generator().manual_seed(0))
        load_weights(net, self.tensors, self.weights)
        return net.to(self.device).eval().requires_grad_(False)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to mean and deviation of each latent, (N, 2c, h, w) float32."""
        return encode_moments(self.net, pixels, self.precision, self.device, self.batch)

    def encode_latents(
        self, raw: Tensor, generator: Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """A draw x (N, c, h, w) of raw latents (N, 2c, h, w); a new one for every noise."""
        return draw_latents(raw, self.scale, self.bias, generator, noise)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Latents (N, c, h, w) to uint8 images (N, C, H, W)."""
        images = []
        for part in x.split(self.batch):
            z = (part.float() - self.bias.to(part.device)) / self.scale.to(part.device)
            with autocast(self.precision, self.device):
                pixels = self.net.decode(z.to(self.device)).sample
            images.append(RgbEncoder().decode(pixels))
        return torch.cat(images)
