"""What images cost on their way to tokens or latents and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mclr.config.base import canonical
from mclr.config.models import Model
from mclr.config.released import Released
from mclr.cost.trace import parameters, trace
from mclr.data.load import Manifest
from mclr.models.edm2.config import AutoencoderArchitecture, Edm2Model
from mclr.models.edm2.encoders import VAE_REDUCTION
from mclr.models.edm2.latents import build_autoencoder, latent_shape, posterior
from mclr.models.var.config import VarModel, VqvaeConfig
from mclr.models.var.vqvae import Vqvae

SD_LATENTS = 4
# The config.json that data/versions.csv names (stabilityai/sd-vae-ft-mse), as diffusers reads it.
SD_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": SD_LATENTS,
    "norm_num_groups": 32,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


@dataclass(frozen=True)
class Encoder:
    """Multiply-adds of an image to tokens or latents and back; all zero for models of pixels.

    half: in the model's own precision, and not in float32.
    """

    encode: int = 0
    decode: int = 0
    parameters: int = 0
    half: bool = False


def encoder_of(model: Model, manifest: Manifest) -> Encoder:
    """The tokenizer or autoencoder of a model."""
    if isinstance(model, VarModel):
        codes = model.tokenizer.network.model_dump()
        return _vqvae(VqvaeConfig(**codes, img_channels=manifest.channels), manifest.resolution)
    inner = model.autoencoder if isinstance(model, Edm2Model) else None
    if inner is None:
        return Encoder()
    if isinstance(inner, Released):
        return _stable_diffusion(manifest.resolution)
    is_half = model.precision != "float32"
    return _autoencoder(canonical(inner.network), manifest.channels, manifest.resolution, is_half)


def latents_of(model: Edm2Model, manifest: Manifest) -> tuple[int, ...]:
    """Shape of what the denoiser sees of an image: (channels, side, side)."""
    if model.autoencoder is None:
        return manifest.shape
    if isinstance(model.autoencoder, Released):
        side = manifest.resolution // VAE_REDUCTION
        return SD_LATENTS, side, side
    return latent_shape(model.autoencoder.network, manifest)


@cache
def _vqvae(config: VqvaeConfig, side: int) -> Encoder:
    latent = config.patch_nums[-1]
    images, codes = (config.img_channels, side, side), (config.z_channels, latent, latent)
    return _encoder(
        lambda: Vqvae(config),
        lambda net: net.encode_tokens(torch.empty(1, *images)),
        lambda net: net.decode(torch.empty(1, *codes)),
    )


@cache
def _autoencoder(text: str, channels: int, side: int, half: bool) -> Encoder:
    network = AutoencoderArchitecture.model_validate_json(text)
    latent = latent_shape(network, Manifest(channels, side, 0, (), {}))
    return _encoder(
        lambda: build_autoencoder(network, channels, torch.Generator().manual_seed(0)),
        lambda net: posterior(net, torch.empty(1, channels, side, side)),
        lambda net: net.decode(torch.empty(1, *latent)).sample,
        half,
    )


@cache
def _stable_diffusion(side: int) -> Encoder:
    from diffusers import AutoencoderKL

    latent = side // VAE_REDUCTION
    return _encoder(
        lambda: cast(nn.Module, cast(Any, AutoencoderKL)(**SD_VAE)),
        lambda net: net.encode(torch.empty(1, 3, side, side)).latent_dist,
        lambda net: net.decode(torch.empty(1, SD_LATENTS, latent, latent)).sample,
    )


def _encoder(
    make: Callable[[], nn.Module],
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    half: bool = False,
) -> Encoder:
    with torch.device("meta"):
        size = parameters(make())
    # Plain attention: the counter does not know the fused one of CPUs.
    with sdpa_kernel(SDPBackend.MATH):
        return Encoder(trace(make, encode).macs, trace(make, decode).macs, size, half)
