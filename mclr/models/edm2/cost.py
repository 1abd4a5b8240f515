"""What EDM2 costs: denoiser calls, and the autoencoder of a model of latents."""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import cache, cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mclr.data.load import Manifest
from mclr.models.cost import ROWS, Coder, DenoiserCost, traced_coder
from mclr.models.edm2.config import AutoencoderArchitecture, Edm2Model, Edm2Network
from mclr.models.edm2.encoders import VAE_CHANNELS, VAE_REDUCTION
from mclr.models.edm2.latents import build_autoencoder, latent_shape, posterior
from mclr.models.edm2.precond import Precond, build
from mclr.models.trace import Trace, parameters, trace_rows
from mclr.settings.origin import Released
from mclr.settings.section import canonical

# The config.json that data/versions.csv names (stabilityai/sd-vae-ft-mse), as diffusers reads it.
SD_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": VAE_CHANNELS,
    "norm_num_groups": 32,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

USUAL = ROWS, 2 * ROWS
"""Rows of the passes that memory is told from (``Cost.training_bytes``), by one trace."""


class Edm2Cost(DenoiserCost):
    """See ``mclr.models.cost.Cost``."""

    model: Edm2Model
    release_bytes = 2

    def __init__(self, model: Edm2Model, manifest: Manifest, *, is_guide: bool = False) -> None:
        super().__init__(model, manifest, is_guide=is_guide)
        guide = model.guide if is_guide else None
        self.drawn, self.is_latent = _drawn(model, manifest), model.has_coder
        self.config = Edm2Network(
            **(guide or model).network.model_dump(),
            img_resolution=self.drawn[1],
            img_channels=self.drawn[0],
            label_dim=0 if guide and not guide.conditional else manifest.num_classes,
        )

    @property
    def key(self) -> Hashable:
        return self.config

    def traced(self, rows: int, grad: bool) -> Trace:
        dtype = torch.bfloat16 if self.half else torch.float32
        if rows in USUAL:
            return _traced(self.config, dtype, USUAL, grad)[rows]
        return _traced(self.config, dtype, (rows,), grad)[rows]

    @property
    def parameters(self) -> int:
        return _parameters(self.config)

    def build(self) -> nn.Module:
        return build(self.config, torch.Generator().manual_seed(0))

    def evaluate(self, net: Any, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _denoise(net, rows, dtype, device)

    def restore(self, net: Any) -> None:
        net.normalize_weights_()

    def narrower(self) -> Edm2Cost:
        network = self.model.network.model_copy(update={"model_channels": 64})
        return Edm2Cost(self.model.model_copy(update={"network": network}), self.manifest)

    @cached_property
    def coder(self) -> Coder:
        inner, images = self.model.autoencoder, self.manifest
        if inner is None:
            return Coder()
        if isinstance(inner, Released):
            return kl_coder(canonical(SD_VAE), images.resolution)
        text = canonical(inner.network)
        return _autoencoder(text, images.channels, images.resolution, self.half)


def evaluation_macs(config: Edm2Network, rows: int = 1) -> int:
    """Multiply-adds of a call of the denoiser; sampling makes 2 num_steps − 1 of them."""
    with sdpa_kernel(SDPBackend.MATH):
        return _traced(config, torch.float32, (rows,), False)[rows].macs


def _drawn(model: Edm2Model, manifest: Manifest) -> tuple[int, ...]:
    """Shape of what the denoiser sees of an image: (channels, side, side)."""
    if model.autoencoder is None:
        return manifest.shape
    if isinstance(model.autoencoder, Released):
        side = manifest.resolution // VAE_REDUCTION
        return VAE_CHANNELS, side, side
    return latent_shape(model.autoencoder.network, manifest)


@cache
def _traced(
    config: Edm2Network, dtype: torch.dtype, counts: tuple[int, ...], grad: bool
) -> dict[int, Trace]:
    evaluate = partial(_denoise, dtype=dtype, device=torch.device("meta"))
    return trace_rows(lambda: Precond(config), evaluate, counts, grad=grad)


def _denoise(net: Precond, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    c = net.config
    x = torch.zeros(rows, c.img_channels, c.img_resolution, c.img_resolution, device=device)
    labels, sigma = torch.zeros(rows, c.label_dim, device=device), torch.ones(rows, device=device)
    return cast(Tensor, net(x, sigma, labels, dtype=dtype))


@cache
def _parameters(config: Edm2Network) -> int:
    with torch.device("meta"):
        return parameters(Precond(config))


@cache
def _autoencoder(text: str, channels: int, side: int, half: bool) -> Coder:
    network = AutoencoderArchitecture.model_validate_json(text)
    latent = latent_shape(network, Manifest(channels, side, 0, (), {}))
    return traced_coder(
        lambda: build_autoencoder(network, channels, torch.Generator().manual_seed(0)),
        lambda net: posterior(net, torch.empty(1, channels, side, side)),
        lambda net: net.decode(torch.empty(1, *latent)).sample,
        half=half,
        statistics=True,
    )


@cache
def kl_coder(text: str, side: int) -> Coder:
    """diffusers' ``AutoencoderKL`` of a configuration in JSON, on images of a side."""
    from diffusers import AutoencoderKL

    config = json.loads(text)
    latent = side // 2 ** (len(config["block_out_channels"]) - 1)
    channels, images = config.get("latent_channels", 4), config.get("in_channels", 3)
    return traced_coder(
        lambda: cast(nn.Module, cast(Any, AutoencoderKL)(**config)),
        lambda net: net.encode(torch.empty(1, images, side, side)).latent_dist,
        lambda net: net.decode(torch.empty(1, channels, latent, latent)).sample,
    )
