"""Images to latents of a folder's ``AutoencoderKL``, and back, as diffusers' pipelines do.

Pixels in [−1, 1]; latents times the folder's scaling factor.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.models.edm2.encoders import draw_latents, unpack_vae
from mclr.models.finite import note_finite
from mclr.models.pixels import check_pixels
from mclr.models.precision import decoding_in

PIXELS = 2**19
"""Pixels that go through it at once: its activations take about 10 kB each."""


class FolderAutoencoder:
    """An ``Encoder`` (``mclr.models.pixels``); x (N, c, h, w) as the network sees latents.

    weights: the one file that ``checkpoint.pack_autoencoder`` makes of a folder. decoding: number
    type of the decoder, see ``mclr.settings.section.Decoding``.
    """

    def __init__(
        self, weights: Path, device: torch.device | str = "cpu", decoding: str = "float32"
    ) -> None:
        self.weights, self.device, self.decoding = weights, torch.device(device), decoding

    @cached_property
    def net(self) -> Any:
        """diffusers' ``AutoencoderKL``; UserError if the file does not have it."""
        return unpack_vae(self.weights).to(self.device).eval().requires_grad_(False)

    @cached_property
    def scale(self) -> Tensor:
        """The scaling factor, (1, 1, 1)."""
        return torch.full((1, 1, 1), float(self.net.config.scaling_factor))

    def shape_of(self, manifest: Manifest) -> tuple[int, int, int]:
        """Shape (c, h, w) of the latents of one image; UserError if its side or channels do not."""
        config, side = self.net.config, manifest.resolution
        factor = 2 ** (len(config.block_out_channels) - 1)
        if side % factor or manifest.channels != config.in_channels:
            raise UserError(
                f"images of {manifest.channels} channels and side {side}: the autoencoder "
                f"{self.weights} expects {config.in_channels} and a multiple of {factor}"
            )
        return int(config.latent_channels), side // factor, side // factor

    def _parts(self, x: Tensor, side: int) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = torch.split(x, max(1, PIXELS // side**2))
        return parts

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to mean and deviation of each latent, (N, 2c, h, w) float32."""
        check_pixels(pixels)
        raws = []
        for part in self._parts(pixels, pixels.shape[-1]):
            found = self.net.encode(part.to(self.device).float() / 127.5 - 1).latent_dist
            raws.append(torch.cat([found.mean, found.std], dim=1))
        return torch.cat(raws)

    def encode_latents(
        self, raw: Tensor, generator: Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """A draw x (N, c, h, w) of raw latents (N, 2c, h, w); a new one for every noise."""
        return draw_latents(raw, self.scale, torch.zeros_like(self.scale), generator, noise)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Latents (N, c, h, w) to uint8 images (N, C, H, W): clamped and rounded."""
        images = []
        factor = 2 ** (len(self.net.config.block_out_channels) - 1)
        for part in self._parts(x, factor * x.shape[-1]):
            z = part.to(self.device).float() / self.scale.to(self.device)
            with decoding_in(self.decoding, self.device):
                pixels = self.net.decode(z).sample.float()
            note_finite(pixels)
            images.append(((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8))
        return torch.cat(images)


class ScaledPixels:
    """Pixels in [−1, 1], rounded back as diffusers' pipelines do."""

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """The pixels unchanged; UserError unless uint8 (N, C, H, W)."""
        check_pixels(pixels)
        return pixels

    def encode_latents(
        self, raw: Tensor, generator: Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """x = raw / 127.5 − 1; x itself stays. Nothing is drawn."""
        return raw.float() / 127.5 - 1 if raw.dtype == torch.uint8 else raw

    def decode(self, x: Tensor) -> Tensor:
        """uint8 (N, C, H, W): clamped and rounded."""
        note_finite(x)
        return ((x.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
