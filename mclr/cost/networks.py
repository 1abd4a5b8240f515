"""What one image costs each network of a tier, traced once per network and process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, cast

import torch
from torch import nn

from mclr.config.base import canonical
from mclr.config.features import ClassifierFeatures, EfficientNetFeatures
from mclr.config.models import AutoencoderArchitecture, Edm2Model, Model
from mclr.cost.images import Images
from mclr.cost.trace import Trace, parameters, trace
from mclr.data.load import Manifest
from mclr.likelihood import token_log_likelihood
from mclr.metrics.classifier import Classifier
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.latents import build_autoencoder, latent_shape, posterior
from mclr.models.edm2.precond import Precond
from mclr.models.flops import generation_flops
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.transformer import Var
from mclr.models.var.vqvae import Vqvae

ROWS = 16
"""Images of a traced pass: so many that memory is theirs, not the weights'."""


@dataclass(frozen=True)
class Encoder:
    """Multiply-adds of an image to tokens or latents and back; all zero for models of pixels."""

    encode: int = 0
    decode: int = 0
    parameters: int = 0


class Network:
    """A model of a tier, on images of its data."""

    def __init__(self, model: Model, images: Images) -> None:
        self.model, self.manifest = model, images.manifest(model.resolution)
        self.config = _config(model, self.manifest)

    @property
    def half(self) -> bool:
        """Whether it computes in 16-bit numbers."""
        return self.model.precision != "float32"

    @property
    def evaluation(self) -> int:
        """Multiply-adds of one pass of one image: a denoiser call, or a likelihood."""
        return self._training(ROWS).macs // ROWS

    @property
    def generation(self) -> int:
        """Multiply-adds of an image without guidance, but for its decoding."""
        if isinstance(self.config, VarConfig):
            return _var_generation(self.config)
        return self.evaluation * (2 * cast(Edm2Model, self.model).sampler.num_steps - 1)

    @cached_property
    def encoder(self) -> Encoder:
        if not isinstance(self.model, Edm2Model):
            codes = self.model.tokenizer.network.model_dump()
            return _vqvae(
                VqvaeConfig(**codes, img_channels=self.manifest.channels), self.manifest.resolution
            )
        if self.model.autoencoder is None:
            return Encoder()
        text = canonical(self.model.autoencoder.network)
        return _autoencoder(text, self.manifest.channels, self.manifest.resolution)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is kept of one training image: pixels, tokens, or moments of latents."""
        if isinstance(self.config, VarConfig):
            return (self.config.length,)
        side, channels = self.config.img_resolution, self.config.img_channels
        return (2 * channels if self.encoder.parameters else channels, side, side)

    @property
    def parameters(self) -> int:
        return _parameters(self.config)

    def training_bytes(self) -> tuple[int, int]:
        """What a training pass keeps: whatever its size, and for every row (image) more."""
        some, more = self._training(ROWS).peak, self._training(2 * ROWS).peak
        return max(0, 2 * some - more), (more - some) // ROWS

    def sampling_bytes(self) -> int:
        """What a pass without gradients holds at once for a row."""
        some, more = (_trace(self.config, self.half, n * ROWS, False).peak for n in (1, 2))
        return (more - some) // ROWS

    def _training(self, rows: int) -> Trace:
        return _trace(self.config, self.half, rows, True)


def _config(model: Model, manifest: Manifest) -> Edm2Network | VarConfig:
    if isinstance(model, Edm2Model):
        inner = model.autoencoder
        shape = latent_shape(inner.network, manifest) if inner else manifest.shape
        return Edm2Network(
            **model.network.model_dump(),
            img_resolution=shape[1],
            img_channels=shape[0],
            label_dim=manifest.num_classes,
        )
    codes = model.tokenizer.network
    return VarConfig(
        **model.network.model_dump(),
        num_classes=manifest.num_classes,
        patch_nums=codes.patch_nums,
        vocab_size=codes.vocab_size,
        z_channels=codes.z_channels,
    )


@cache
def _trace(config: Edm2Network | VarConfig, half: bool, rows: int, grad: bool) -> Trace:
    """A pass of ``rows`` images."""
    if isinstance(config, Edm2Network):
        return trace(lambda: Precond(config), partial(_denoise, half, rows), grad=grad)
    # All blocks are alike, so depths 1 and 2 tell the cost of any.
    one, two = (_trace_var(_of_depth(config, depth), half, rows, grad) for depth in (1, 2))
    more = config.depth - 1
    return Trace(one.macs + more * (two.macs - one.macs), one.peak + more * (two.peak - one.peak))


def _denoise(half: bool, rows: int, net: Precond) -> Any:
    c = net.config
    x = torch.empty(rows, c.img_channels, c.img_resolution, c.img_resolution)
    labels = torch.empty(rows, c.label_dim)
    return net(x, torch.ones(rows), labels, dtype=torch.bfloat16 if half else torch.float32)


def _trace_var(config: VarConfig, half: bool, rows: int, grad: bool) -> Trace:
    length = config.length

    def evaluate(net: Var) -> Any:
        labels = torch.zeros(rows, dtype=torch.int64)
        tokens = torch.zeros(rows, length, dtype=torch.int64)
        inputs = torch.empty(rows, length - config.first_length, config.z_channels)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return token_log_likelihood(net(labels, inputs), tokens)

    # Attention weights exist on CPUs alone; the fused attention of GPUs has no place for them.
    return trace(
        lambda: Var(config), evaluate, grad=grad, free=lambda shape: shape[-2:] == (length, length)
    )


def _of_depth(config: VarConfig, depth: int) -> VarConfig:
    fixed = {"embed_dim": config.width, "num_heads": config.heads}
    return config.model_copy(update={"depth": depth, **fixed})


@cache
def _var_generation(config: VarConfig) -> int:
    return generation_flops(config)


@cache
def _parameters(config: Edm2Network | VarConfig) -> int:
    with torch.device("meta"):
        return parameters(Precond(config) if isinstance(config, Edm2Network) else Var(config))


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
def _autoencoder(text: str, channels: int, side: int) -> Encoder:
    network = AutoencoderArchitecture.model_validate_json(text)
    latent = latent_shape(network, Manifest(channels, side, 0, (), {}))
    return _encoder(
        lambda: build_autoencoder(network, channels, torch.Generator().manual_seed(0)),
        lambda net: posterior(net, torch.empty(1, channels, side, side)),
        lambda net: net.decode(torch.empty(1, *latent)).sample,
    )


def _encoder(
    make: Callable[[], nn.Module], encode: Callable[[Any], Any], decode: Callable[[Any], Any]
) -> Encoder:
    with torch.device("meta"):
        size = parameters(make())
    return Encoder(trace(make, encode).macs, trace(make, decode).macs, size)


@cache
def feature_macs(
    settings: ClassifierFeatures | EfficientNetFeatures, channels: int, side: int, classes: int
) -> int:
    """Multiply-adds of a feature net on one image."""
    images = (1, channels, side, side)

    def make() -> nn.Module:
        if isinstance(settings, ClassifierFeatures):
            return Classifier(channels, settings.channels, settings.dimensions, classes)
        from mclr.metrics.efficientnet import EfficientNetLite0

        return EfficientNetLite0(settings.size, classes)

    return trace(make, lambda net: net(torch.zeros(images, dtype=torch.uint8))).macs


def dimensions(settings: ClassifierFeatures | EfficientNetFeatures) -> int:
    """Features of an image by a feature net."""
    if isinstance(settings, ClassifierFeatures):
        return settings.dimensions
    from mclr.metrics.efficientnet import DIMENSIONS

    return DIMENSIONS
