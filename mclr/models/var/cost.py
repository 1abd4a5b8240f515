"""What VAR costs: teacher-forced likelihoods, sampling scale by scale, and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mclr.data.load import Manifest
from mclr.device import CPU
from mclr.likelihood import token_log_likelihood
from mclr.models.cost import Coder, Cost, traced_coder
from mclr.models.trace import Trace, parameters, trace
from mclr.models.var.config import VarConfig, VarModel, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae


class VarCost(Cost):
    """See ``mclr.models.cost.Cost``."""

    model: VarModel

    def __init__(self, model: VarModel, manifest: Manifest, *, is_guide: bool = False) -> None:
        super().__init__(model, manifest, is_guide=is_guide)
        codes = model.tokenizer.network
        self.config = VarConfig(
            **model.network.model_dump(),
            num_classes=manifest.num_classes,
            patch_nums=codes.patch_nums,
            vocab_size=codes.vocab_size,
            z_channels=codes.z_channels,
        )

    @property
    def key(self) -> Hashable:
        return self.config

    def traced(self, rows: int, grad: bool) -> Trace:
        return _likelihood(self.config, torch.bfloat16 if self.half else torch.float32, rows, grad)

    @property
    def parameters(self) -> int:
        return _parameters(self.config)

    @property
    def generation(self) -> int:
        return generation_macs(self.config)

    def build(self) -> nn.Module:
        return Var.build(self.config, torch.Generator().manual_seed(0))

    def evaluate(self, net: Any, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _evaluate(net, rows, dtype, device)

    def narrower(self) -> VarCost:
        size = self.model.network
        less = {"depth": 1, "embed_dim": size.width, "num_heads": size.heads}
        network = size.model_copy(update=less)
        return VarCost(self.model.model_copy(update={"network": network}), self.manifest)

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens."""
        return (self.config.length,)

    @property
    def drawn_bytes(self) -> float:
        """Tokens in int64."""
        return 8 * self.config.length

    def cache_bytes(self) -> int:
        """Keys and values of the tokens of a row, in all blocks."""
        c = self.config
        return 2 * c.depth * c.length * c.width * (2 if self.half else 4)

    @cached_property
    def coder(self) -> Coder:
        codes, images = self.model.tokenizer.network.model_dump(), self.manifest
        return _vqvae(VqvaeConfig(**codes, img_channels=images.channels), images.resolution)


def likelihood_macs(config: VarConfig, rows: int = 1) -> int:
    """Multiply-adds of the teacher-forced pass over the tokens of all scales."""
    return _likelihood(config, torch.float32, rows, False).macs


@cache
def generation_macs(config: VarConfig, rows: int = 1, *, cached: bool = True) -> int:
    """Multiply-adds of the transformer for generating ``rows`` images without guidance.

    cached: keys and values of coarser scales are kept, as ``var_sample`` does; without, every
    scale evaluates all tokens up to its own. Guidance doubles either.
    """
    scales = len(config.patch_nums)

    def generate(net: Var, count: int) -> None:
        labels, caches = torch.zeros(rows, dtype=torch.int64), net.new_caches()
        for si, (begin, end) in enumerate(net.spans[:count]):
            shape = (rows, end - begin, net.config.z_channels)
            net.scale_logits(si, labels, torch.zeros(shape) if si else None, caches)

    if cached:
        return _of_all_blocks(config, lambda net: generate(net, scales)).macs
    total = _of_all_blocks(config, lambda net: generate(net, 1)).macs
    for count in range(2, scales + 1):
        coarser = config.model_copy(update={"patch_nums": config.patch_nums[:count]})
        total += likelihood_macs(coarser, rows)
    return total


@cache
def _likelihood(config: VarConfig, dtype: torch.dtype, rows: int, grad: bool) -> Trace:
    return _of_all_blocks(config, lambda net: _evaluate(net, rows, dtype, CPU), grad)


def _of_all_blocks(config: VarConfig, evaluate: Callable[[Var], Any], grad: bool = False) -> Trace:
    """All blocks are alike, so depths 1 and 2 tell the cost of any.

    Attention weights exist on CPUs alone; the fused attention of GPUs has no place for them.
    """
    weights = (config.length, config.length)
    fixed = {"embed_dim": config.width, "num_heads": config.heads}

    def traced(depth: int) -> Trace:
        size = config.model_copy(update={"depth": depth, **fixed})
        # Plain attention: the counter does not know the fused one of CPUs.
        with sdpa_kernel(SDPBackend.MATH):
            free = lambda shape: shape[-2:] == weights  # noqa: E731
            return trace(lambda: Var(size), evaluate, grad=grad, free=free)

    one, two = traced(1), traced(2)
    more = config.depth - 1
    return Trace(one.macs + more * (two.macs - one.macs), one.peak + more * (two.peak - one.peak))


def _evaluate(net: Var, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    c = net.config
    tokens = torch.zeros(rows, c.length, dtype=torch.int64, device=device)
    inputs = torch.zeros(rows, c.length - c.first_length, c.z_channels, device=device)
    labels = torch.zeros(rows, dtype=torch.int64, device=device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return token_log_likelihood(net(labels, inputs), tokens)


@cache
def _parameters(config: VarConfig) -> int:
    with torch.device("meta"):
        return parameters(Var(config))


@cache
def _vqvae(config: VqvaeConfig, side: int) -> Coder:
    latent = config.patch_nums[-1]
    images, codes = (config.img_channels, side, side), (config.z_channels, latent, latent)
    return traced_coder(
        lambda: Vqvae(config),
        lambda net: net.encode_tokens(torch.empty(1, *images)),
        lambda net: net.decode(torch.empty(1, *codes)),
    )
