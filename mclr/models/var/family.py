"""VAR as a model family: tokens of a multi-scale VQ-VAE, exact likelihood, next-scale sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mclr.config import VarSampler
from mclr.data.load import Manifest
from mclr.files import load_tensors
from mclr.likelihood import Draw
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.transformer import Var
from mclr.models.var.vqvae import Vqvae
from mclr.models.weights import load_weights
from mclr.sampling.var import seeded_uniforms, var_sample


class VarFamily:
    """See ``mclr.models.family.Family``."""

    def __init__(
        self,
        architecture: dict[str, Any],
        manifest: Manifest,
        tokenizer: Path,
        sampler: dict[str, Any] | None,
    ) -> None:
        architecture = dict(architecture)
        codes = VqvaeConfig(**architecture.pop("tokenizer"), img_channels=manifest.channels)
        self.config = VarConfig(
            **architecture,
            num_classes=manifest.num_classes,
            patch_nums=codes.patch_nums,
            vocab_size=codes.vocab_size,
            z_channels=codes.z_channels,
        )
        self.vqvae = Vqvae.build(codes, torch.Generator().manual_seed(0))
        load_weights(self.vqvae, load_tensors(tokenizer)[0], tokenizer)
        self.vqvae.eval().requires_grad_(False)
        self.sampler = VarSampler.model_validate(sampler) if sampler else None

    def build(self, generator: torch.Generator) -> nn.Module:
        return Var.build(self.config, generator)

    def encode(self, images: Tensor) -> Tensor:
        return self.vqvae.encode_tokens(images.float() / 127.5 - 1)

    def decode(self, x: Tensor) -> Tensor:
        pixels = self.vqvae.decode_tokens(x)
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        return Draw()

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return cast(Var, net).log_likelihood(labels, x, self.vqvae.tokens_to_input(x))

    # Mean negative log-likelihood of a token: VAR's cross-entropy.
    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return -self.log_likelihood(net, x, labels, draw).mean() / x.shape[1]

    def after_step(self, net: nn.Module) -> None:
        """No constraint."""

    def generate(
        self, net: nn.Module, seeds: Sequence[int], labels: Tensor, guidance: float
    ) -> Tensor:
        if self.sampler is None:
            raise ValueError("sampler settings are needed to generate")
        uniforms = seeded_uniforms(seeds, self.config.length)
        settings = self.sampler.model_dump()
        return var_sample(cast(Var, net), self.vqvae, labels, uniforms, cfg=guidance, **settings)
