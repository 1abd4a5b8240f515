"""VAR as a model family: tokens of a multi-scale VQ-VAE, exact likelihood, next-scale sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.device import CPU, move
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.likelihood import Draw
from mclr.likelihood.prediction import Logits
from mclr.models.dial import Dial
from mclr.models.family import Family
from mclr.models.precision import (
    NARROW,
    autocast,
    check_precision,
    decoding_in,
    resolve_precision,
)
from mclr.models.replay import Function, Replayed, can_record
from mclr.models.seeded import seeded_uniforms
from mclr.models.var.config import VarConfig, VarSampler, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.sampler import check_sample, draw_tokens, finite_tokens, guidance_ramp
from mclr.models.var.vqvae import Vqvae
from mclr.models.weights import load_weights

DECODED_PIXELS = 2**21
"""Pixels that go through the decoder at once: its activations take about 5 kB each."""

NO_DECAY = ("pos_1LC", "pos_start", "lvl_embed", "ada_gss", "scale_mul")
"""Parts of names that weight decay spares in VAR's training."""


class VarFamily(Family):
    """See ``mclr.models.family.Family``."""

    has_masks = True
    has_dial = True
    official = "var"

    def __init__(
        self,
        architecture: dict[str, Any],
        manifest: Manifest,
        tokenizer: Path,
        sampler: dict[str, Any] | None,
        precision: str = "float32",
        device: torch.device = CPU,
        decoding: str = "float32",
    ) -> None:
        self.device, self.decoding = device, decoding
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
        self.vqvae.to(device).eval().requires_grad_(False)
        self.sampler = VarSampler.model_validate(sampler) if sampler else None
        self.precision = check_precision(precision)

    @property
    def untold(self) -> dict[str, Any]:
        return self.config.untold

    def build(self, generator: torch.Generator) -> nn.Module:
        return Var.build(self.config, generator)

    def encode(self, images: Tensor) -> Tensor:
        return self.vqvae.encode_tokens(images.to(self.device).float() / 127.5 - 1).cpu()

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return rows.long()

    def decode(self, x: Tensor) -> Tensor:
        side = self.config.patch_nums[-1] * self.vqvae.config.downsampling
        images = []
        for part in x.split(max(1, DECODED_PIXELS // side**2)):
            with decoding_in(self.decoding, self.device):
                pixels = self.vqvae.decode_tokens(part).float()
            images.append(((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
        return torch.cat(images)

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        inputs = self.vqvae.tokens_to_input(x)
        with self._autocast(x.device):
            return cast(Var, net).log_likelihood(
                labels, x, inputs, masks=draw.masks, dial=draw.dial
            )

    def predict(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Logits:
        inputs = self.vqvae.tokens_to_input(x)
        with self._autocast(x.device):
            logits: Tensor = net(labels, inputs, masks=draw.masks, dial=draw.dial)
        return Logits(logits, move(guidance_ramp(self.config.patch_nums), x.device))

    # Mean negative log-likelihood of a token: VAR's cross-entropy.
    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return -self.log_likelihood(net, x, labels, draw).mean() / x.shape[1]

    # FoundationVision/VAR, utils/lr_control.py filter_params and train.py.
    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        spared = parameter.ndim == 1 or name.endswith("bias") or any(k in name for k in NO_DECAY)
        return not (spared or name.startswith("dial."))  # an embedding, as these are

    def with_dial(self, net: nn.Module) -> nn.Module:
        cast(Var, net).dial = Dial(self.config.width).to(self.device)
        return net

    def frozen(self, net: nn.Module) -> nn.Module:
        return cast(Var, net).frozen(self.dtype(next(net.parameters()).device))

    def dtype(self, device: torch.device) -> torch.dtype:
        """The type of products on ``device``."""
        # Where float16 would need scaled losses to train a transformer, bfloat16 does not.
        return resolve_precision(self.precision, device, on_gpu=torch.bfloat16, wide=self._wide)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return autocast(self.precision, device, wide=self._wide)

    @property
    def _wide(self) -> bool:
        return self.config.width >= NARROW["var"]

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
        if guide or interval:
            raise UserError(
                "guidance by another model and within noise levels are for diffusion models; "
                "remove autoguidance and interval from the studies of this VAR model"
            )
        if self.sampler is None:
            raise ValueError("sampler settings are needed to generate")
        uniforms = seeded_uniforms(seeds, self.config.length)
        fixed = cast(Var, self.frozen(net))
        check_sample(fixed, self.vqvae, labels, uniforms)
        draw = self._sampled(fixed, fixed is net, guidance, **self.sampler.model_dump())
        return finite_tokens(draw(labels.to(self.device), move(uniforms, self.device)))

    def _sampled(self, fixed: Var, stays: bool, guidance: float, **settings: float) -> Function:
        """Labels and uniforms to tokens: 12,000 kernels, recorded on a GPU if the network stays."""

        def draw(labels: Tensor, uniforms: Tensor) -> Tensor:
            with self._autocast(labels.device):
                return draw_tokens(
                    fixed, self.vqvae, labels, uniforms, cfg=guidance, **cast(Any, settings)
                )

        if not (stays and can_record(self.device)):
            return draw
        # A recording reads the weights where they were.
        key = (guidance, *settings.values(), fixed.pos_start.data_ptr())
        return fixed.recordings.setdefault(key, Replayed(draw))
