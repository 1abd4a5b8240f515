"""What one image costs each network of a tier, traced once per network and process."""

from __future__ import annotations

from functools import cache, cached_property, partial
from typing import Any

import torch

from mclr.config.models import Model
from mclr.cost.coders import Encoder, encoder_of, latents_of
from mclr.cost.images import Images
from mclr.cost.own import own_pass, own_size
from mclr.cost.trace import Trace, parameters, trace
from mclr.data.load import Manifest
from mclr.likelihood import token_log_likelihood
from mclr.models.edm2.config import Edm2Model, Edm2Network
from mclr.models.edm2.precond import Precond
from mclr.models.flops import generation_flops
from mclr.models.var.config import VarConfig, VarModel
from mclr.models.var.network import Var

ROWS = 16
"""Images of a traced pass: so many that memory is theirs, not the weights'."""

Config = Edm2Network | VarConfig


class Network:
    """A model of a tier, on images of its data; ``is_guide``: the network that guides it."""

    def __init__(self, model: Model, images: Images, *, is_guide: bool = False) -> None:
        self.model, self.manifest = model, images.manifest(model.resolution)
        self.config = _config(model, self.manifest, is_guide)

    @property
    def half(self) -> bool:
        """Whether it computes in 16-bit numbers."""
        return self.model.precision != "float32"

    @property
    def evaluation(self) -> int:
        """Multiply-adds of one pass of one image: a denoiser call, or a likelihood."""
        return self._pass(ROWS, True).macs // ROWS

    @property
    def generation(self) -> int:
        """Multiply-adds of an image without guidance, but for its decoding."""
        if isinstance(self.config, VarConfig):
            return _var_generation(self.config)
        if isinstance(self.model, Edm2Model):
            return self.evaluation * (2 * self.model.sampler.num_steps - 1)
        return self.evaluation * getattr(self.model, "nfe", 1)

    @cached_property
    def encoder(self) -> Encoder:
        return encoder_of(self.model, self.manifest)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is kept of one training image: pixels, tokens, or moments of latents."""
        if isinstance(self.config, VarConfig):
            return (self.config.length,)
        if not isinstance(self.model, Edm2Model):
            return self.manifest.shape
        channels, *sides = latents_of(self.model, self.manifest)
        return (2 * channels if self.encoder.parameters else channels, *sides)

    @property
    def parameters(self) -> int:
        if self.config is None:
            return own_size(self.model, self.manifest)
        return _parameters(self.config)

    def training_bytes(self) -> tuple[int, int]:
        """What a training pass keeps: whatever its size, and for every row (image) more."""
        some, more = self._pass(ROWS, True).peak, self._pass(2 * ROWS, True).peak
        return max(0, 2 * some - more), (more - some) // ROWS

    def sampling_bytes(self) -> int:
        """What a pass without gradients holds at once for a row, and VAR from scale to scale."""
        some, more = (self._pass(n * ROWS, False).peak for n in (1, 2))
        return (more - some) // ROWS + self._kept_bytes()

    def _kept_bytes(self) -> int:
        """Keys and values of the tokens of a row, in all blocks."""
        if not isinstance(self.config, VarConfig):
            return 0
        c = self.config
        return 2 * c.depth * c.length * c.width * (2 if self.half else 4)

    def _pass(self, rows: int, grad: bool) -> Trace:
        if self.config is None:
            return own_pass(self.model, self.manifest, rows, grad)
        return _trace(self.config, self.half, rows, grad)


def _config(model: Model, manifest: Manifest, is_guide: bool) -> Config | None:
    """Of one's own family: None."""
    if isinstance(model, Edm2Model):
        guide = model.guide if is_guide else None
        channels, side, _ = latents_of(model, manifest)
        return Edm2Network(
            **(guide or model).network.model_dump(),
            img_resolution=side,
            img_channels=channels,
            label_dim=0 if guide and not guide.conditional else manifest.num_classes,
        )
    if not isinstance(model, VarModel):
        return None
    codes = model.tokenizer.network
    return VarConfig(
        **model.network.model_dump(),
        num_classes=manifest.num_classes,
        patch_nums=codes.patch_nums,
        vocab_size=codes.vocab_size,
        z_channels=codes.z_channels,
    )


@cache
def _trace(config: Config, half: bool, rows: int, grad: bool) -> Trace:
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
def _parameters(config: Config) -> int:
    with torch.device("meta"):
        return parameters(Precond(config) if isinstance(config, Edm2Network) else Var(config))
