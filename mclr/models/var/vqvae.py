"""VAR's tokenizer: a convolutional encoder and decoder around the multi-scale quantizer.

Parameter names are those of the released checkpoint (vae_ch160v4096z32.pth).
Letters in shapes: N images, C image channels, H = W image side, L tokens, z latent channels.
Source: the latent-diffusion autoencoder as configured by VAR.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from mclr.models.finite import note_finite
from mclr.models.var.config import VqvaeConfig, norm_groups
from mclr.models.var.quantizer import Quantizer


class VqvaeOutput(NamedTuple):
    """Training pass of the tokenizer."""

    recon: Tensor  # (N, C, H, W), not clamped
    vq_loss: Tensor  # scalar, see Quantizer.forward
    hits: Tensor  # (S, V) int64, how often each code was chosen at each scale


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(norm_groups(channels), channels, eps=1e-6)


def _conv(c_in: int, c_out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, padding=size // 2)


def _dropout(x: Tensor, rate: float, generator: Generator | None) -> Tensor:
    """Zero elements with probability `rate` and rescale; without a generator nothing is drawn."""
    if generator is None or rate == 0.0:
        return x
    draw = torch.rand(x.shape, generator=generator, device=generator.device)
    return x * (draw >= rate).to(x) / (1 - rate)


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions with a skip, (N, c_in, h, w) -> (N, c_out, h, w)."""

    def __init__(self, c_in: int, c_out: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(c_in), _conv(c_in, c_out)
        self.norm2, self.conv2 = _norm(c_out), _conv(c_out, c_out)
        self.dropout = dropout
        self.nin_shortcut = _conv(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, generator: Generator | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(_dropout(F.silu(self.norm2(h)), self.dropout, generator))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class AttnBlock(nn.Module):
    """Single-head attention between all pixels, with a skip; keeps (N, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = _conv(channels, 3 * channels, 1)
        self.proj_out = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)
        q, k, v = (part.contiguous() for part in qkv.chunk(3, dim=-1))
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        out: Tensor = x + self.proj_out(h)
        return out


class Downsample(nn.Module):
    """Stride-2 convolution padded on the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return out


class Level(nn.Module):
    """Blocks of one resolution, then a change of resolution unless it is the last level.

    `attention` puts an AttnBlock after each residual block.
    """

    def __init__(self, c_in: int, c_out: int, blocks: int, attention: bool, dropout: float) -> None:
        super().__init__()
        widths = [c_in] + [c_out] * blocks
        self.block = nn.ModuleList(ResBlock(a, b, dropout) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(AttnBlock(c_out) for _ in range(blocks if attention else 0))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor, generator: Generator | None) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x, generator)
            if len(self.attn):
                x = self.attn[i](x)
        out: Tensor = self.upsample(self.downsample(x))
        return out


class Middle(nn.Module):
    """Two blocks at the lowest resolution with optional attention between them."""

    def __init__(self, channels: int, attention: bool, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, dropout)
        self.attn_1 = AttnBlock(channels) if attention else nn.Identity()
        self.block_2 = ResBlock(channels, channels, dropout)

    def forward(self, x: Tensor, generator: Generator | None) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x, generator)), generator)
        return out


class Encoder(nn.Module):
    """Images (N, C, H, W) -> latents (N, z, P, P)."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        lowest = len(widths) - 1
        self.conv_in = _conv(config.img_channels, config.ch)
        self.down = nn.ModuleList()
        c_in = config.ch
        for i, width in enumerate(widths):
            attention = i == lowest and config.using_sa
            level = Level(c_in, width, config.num_res_blocks, attention, config.dropout)
            if i < lowest:
                level.downsample = Downsample(width)
            self.down.append(level)
            c_in = width
        self.mid = Middle(c_in, config.using_mid_sa, config.dropout)
        self.norm_out, self.conv_out = _norm(c_in), _conv(c_in, config.z_channels)

    def forward(self, x: Tensor, generator: Generator | None) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h, generator)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h, generator))))
        return out


class Decoder(nn.Module):
    """Latents (N, z, P, P) -> images (N, C, H, W); one block more per level than the encoder."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        lowest = len(widths) - 1
        self.conv_in = _conv(config.z_channels, widths[-1])
        self.mid = Middle(widths[-1], config.using_mid_sa, config.dropout)
        levels: list[Level] = []
        for i, width in enumerate(widths):
            c_in = widths[min(i + 1, lowest)]
            attention = i == lowest and config.using_sa
            levels.append(Level(c_in, width, config.num_res_blocks + 1, attention, config.dropout))
            if i > 0:
                levels[-1].upsample = Upsample(width)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = _norm(widths[0]), _conv(widths[0], config.img_channels)

    def forward(self, z: Tensor, generator: Generator | None) -> Tensor:
        h = self.mid(self.conv_in(z), generator)
        for level in reversed(self.up):
            h = level(h, generator)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out


class Vqvae(nn.Module):
    """Tokenizer: images in [-1, 1] <-> tokens of all scales, concatenated coarse to fine."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = Quantizer(config)
        sizes = (config.z_channels, config.z_channels, config.quant_conv_ks)
        self.quant_conv, self.post_quant_conv = _conv(*sizes), _conv(*sizes)

    @classmethod
    def build(cls, config: VqvaeConfig, generator: Generator) -> Vqvae:
        """A new tokenizer on the generator's device; the weights depend on the generator only."""
        with torch.device("meta"):
            model = cls(config)
        model.to_empty(device=generator.device)
        model._init_weights(generator)
        return model

    @torch.no_grad()
    def _init_weights(self, generator: Generator) -> None:
        """torch's own convolution initialisation; codes uniform in +-1/V (as in VQ-VAE, VQGAN)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
        bound = 1 / self.config.vocab_size
        self.quantize.embedding.weight.uniform_(-bound, bound, generator=generator)
        self.quantize.get_buffer("ema_vocab_hit_SV").zero_()

    def encode(self, images: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Latents before quantisation: (N, C, H, W) -> (N, z, P, P)."""
        out: Tensor = self.quant_conv(self.encoder(images, generator))
        return out

    def decode(self, fhat: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Images of quantised latents, not clamped: (N, z, P, P) -> (N, C, H, W)."""
        out: Tensor = self.decoder(self.post_quant_conv(fhat), generator)
        return out

    @torch.no_grad()
    def encode_tokens(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> int64 tokens (N, L); UserError on a wrong side."""
        return self.quantize.encode(self.encode(images))

    def tokens_to_input(self, tokens: Tensor) -> Tensor:
        """Teacher-forcing input of the transformer: (N, L) -> (N, L - first_l, z)."""
        return self.quantize.tokens_to_input(tokens)

    @torch.no_grad()
    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) -> images (N, C, H, W), finite, clamped to [-1, 1]."""
        images = self.decode(self.quantize.fhats(tokens)[-1])
        note_finite(images)
        return images.clamp(-1, 1)

    def next_input(self, si: int, fhat: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """One step of generation, see Quantizer.next_input."""
        return self.quantize.next_input(si, fhat, h)

    def forward(self, images: Tensor, *, generator: Generator | None = None) -> VqvaeOutput:
        """Training pass on images (N, C, H, W) in [-1, 1].

        The generator draws the dropout masks; without one dropout is off.
        """
        quantized = self.quantize(self.encode(images, generator=generator))
        recon = self.decode(quantized.fhat, generator=generator)
        return VqvaeOutput(recon, quantized.vq_loss, quantized.hits)
