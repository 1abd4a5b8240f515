"""EDM2 U-Net built from magnitude-preserving operations.

Equation numbers are those of Karras et al. 2024 (arXiv 2312.02696). Parameter and
buffer names are the official ones, so official state dicts load unchanged. The forward pass
never changes a parameter: weights are normalised functionally, and the forced normalisation of
training is the separate call ``MPConv.normalize_weight_``.

Constant factors of mp_silu and mp_sum are part of the weights beside them, and activations lie
channels last: both save passes over the activations and change no result but in its last bits.

Legend for shapes: N batch, C channels, H x W pixels, L = H * W, E embedding channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mclr.errors import UserError
from mclr.likelihood.masks import Masks
from mclr.models.dial import Dial
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.operations import (
    SILU_RMS,
    MPConv,
    MPFourier,
    Resample,
    add_scaled,
    add_scaled_,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    resample,
    sum_shares,
)


class Block(nn.Module):
    """Encoder or decoder block: (N, in, H, W), (N or 1, E) -> (N, out, H', W').

    An encoder block puts the skip convolution and a pixel norm before the residual branch; a
    decoder block puts the skip convolution after it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        config: Edm2Network,
        *,
        encoder: bool,
        resample_mode: Resample = "keep",
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.layer = 0
        """Which of the blocks of its network it is, for masks."""
        self.encoder = encoder
        self.out_channels = out_channels
        self.resample_mode: Resample = resample_mode
        # Fewer channels than one head means no attention, as in the official code.
        self.num_heads = out_channels // config.channels_per_head if attention else 0
        if self.num_heads and out_channels % self.num_heads:
            raise UserError(
                f"EDM2 attention: {out_channels} channels cannot be split over {self.num_heads} "
                "heads; choose channels_per_head so that it divides every level's channels"
            )
        inner = out_channels if encoder else in_channels
        self.share_x, share_y = sum_shares(config.res_balance)
        self.share_attn_x, share_attn = sum_shares(config.attn_balance)
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(inner, out_channels, (3, 3), 1 / SILU_RMS)
        self.emb_linear = MPConv(emb_channels, out_channels)
        self.conv_res1 = MPConv(out_channels, out_channels, (3, 3), share_y / SILU_RMS)
        widen = in_channels != out_channels
        self.conv_skip = MPConv(in_channels, out_channels, (1, 1)) if widen else None
        attn = self.num_heads > 0
        self.attn_qkv = MPConv(out_channels, out_channels * 3, (1, 1)) if attn else None
        self.attn_proj = MPConv(out_channels, out_channels, (1, 1), share_attn) if attn else None

    def forward(self, x: Tensor, emb: Tensor, masks: Masks | None = None) -> Tensor:
        c = self.config
        x = resample(x, c.resample_filter, self.resample_mode)
        if self.encoder:
            x = normalize(x if self.conv_skip is None else self.conv_skip(x), dim=(1,))
        y = self._residual(x, emb, masks)
        if not self.encoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = add_scaled_(y, x, self.share_x)  # mp_sum
        if self.attn_qkv is not None and self.attn_proj is not None:
            y = self.attn_proj(self._attend(self.attn_qkv(x)))
            x = add_scaled(y, x, self.share_attn_x)
        # hardtanh is a clamp whose gradient needs no pass over a mask
        return x if c.clip_act is None else F.hardtanh_(x, -c.clip_act, c.clip_act)

    def _residual(self, x: Tensor, emb: Tensor, masks: Masks | None) -> Tensor:
        """Two convolutions, modulated by the embedding: (N, C, H, W) -> (N, out, H, W).

        Without masks, dropout is that of the configuration, in training.
        """
        y = self.conv_res0(F.silu(x))
        scale = (self.emb_linear(emb, gain=self.emb_gain) + 1)[:, :, None, None].to(y.dtype)
        # In place where no gradient needs what was there: half the memory to touch.
        y = F.silu(y * scale) if torch.is_grad_enabled() else F.silu(y.mul_(scale), inplace=True)
        if masks is None:
            y = F.dropout(y, self.config.dropout, self.training)
        else:
            y = masks.drop(y, self.layer)
        out: Tensor = self.conv_res1(y)
        return out

    def _attend(self, qkv: Tensor) -> Tensor:
        """Cosine attention over pixels: (N, 3C, H, W) -> (N, C, H, W).

        Channels are ordered head, channel, (q, k, v); q, k and v are unit rms per head and pixel.
        """
        n, _, h, w = qkv.shape
        split = qkv.movedim(1, -1).reshape(n, h * w, self.num_heads, -1, 3)
        q, k, v = normalize(split.permute(4, 0, 2, 1, 3).contiguous(), dim=(4,)).unbind(0)
        # Each (N, heads, L, C / heads); torch's fused attention is no faster at these L, and its
        # gradient in bfloat16 is ten times slower on CPUs.
        weights = (q / math.sqrt(q.shape[-1]) @ k.transpose(-2, -1)).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).reshape(n, h, w, -1).movedim(-1, 1)


class UNet(nn.Module):
    """EDM2 U-Net F(x; c_noise, label): (N, C, H, W) -> (N, C, H, W) in the type of x.

    With ``checkpointing`` a training pass keeps what enters each block and computes the rest again
    for the gradient, which is the same: less memory, about a third more time.
    """

    compilable = True

    def __init__(self, config: Edm2Network) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        widths = [config.model_channels * m for m in config.channel_mult]
        mult_noise, mult_emb = config.channel_mult_noise, config.channel_mult_emb
        c_noise = config.model_channels * mult_noise if mult_noise else widths[0]
        c_emb = config.model_channels * mult_emb if mult_emb else max(widths)
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(c_noise)
        self.emb_noise = MPConv(c_noise, c_emb)
        self.emb_label = MPConv(config.label_dim, c_emb) if config.label_dim else None
        self.width = c_emb
        self.dial = Dial(c_emb) if config.dial else None
        self.enc = self._encoder(widths, c_emb)
        self.dec = self._decoder(widths, c_emb)
        self.out_conv = MPConv(widths[0], config.img_channels, (3, 3))
        for layer, block in enumerate(m for m in self.modules() if isinstance(m, Block)):
            block.layer = layer

    def _encoder(self, widths: list[int], c_emb: int) -> nn.ModuleDict:
        c = self.config
        enc = nn.ModuleDict()
        width = c.img_channels + 1
        for level, channels in enumerate(widths):
            res = c.img_resolution >> level
            if level == 0:
                enc[f"{res}x{res}_conv"] = MPConv(width, channels, (3, 3))
                width = channels
            else:
                enc[f"{res}x{res}_down"] = Block(
                    width, width, c_emb, c, encoder=True, resample_mode="down"
                )
            attention = res in c.attn_resolutions
            for i in range(c.num_blocks):
                enc[f"{res}x{res}_block{i}"] = Block(
                    width, channels, c_emb, c, encoder=True, attention=attention
                )
                width = channels
        return enc

    def _decoder(self, widths: list[int], c_emb: int) -> nn.ModuleDict:
        c = self.config
        dec = nn.ModuleDict()
        skips = [int(m.out_channels) for m in self.enc.values()]  # type: ignore[arg-type]
        width = widths[-1]
        for level, channels in reversed(list(enumerate(widths))):
            res = c.img_resolution >> level
            if level == len(widths) - 1:
                dec[f"{res}x{res}_in0"] = Block(
                    width, width, c_emb, c, encoder=False, attention=True
                )
                dec[f"{res}x{res}_in1"] = Block(width, width, c_emb, c, encoder=False)
            else:
                dec[f"{res}x{res}_up"] = Block(
                    width, width, c_emb, c, encoder=False, resample_mode="up"
                )
            attention = res in c.attn_resolutions
            for i in range(c.num_blocks + 1):
                dec[f"{res}x{res}_block{i}"] = Block(
                    width + skips.pop(), channels, c_emb, c, encoder=False, attention=attention
                )
                width = channels
        return dec

    def embed(
        self, c_noise: Tensor, class_labels: Tensor | None, dial: Tensor | None = None
    ) -> Tensor:
        """Embedding of noise level (N or 1,) and labels (N or 1, label_dim): (N or 1, E).

        dial: values (N,) of its dial, if it has one; those that it is set to if absent.
        """
        emb = self.emb_noise(self.emb_fourier(c_noise))
        if self.emb_label is not None and class_labels is not None:
            label = self.emb_label(class_labels * math.sqrt(class_labels.shape[1]))
            emb = mp_sum(emb, label, self.config.label_balance)
        if self.dial is not None:
            emb = emb + self.dial(dial)
        return mp_silu(emb)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        class_labels: Tensor | None,
        masks: Masks | None = None,
        dial: Tensor | None = None,
    ) -> Tensor:
        emb = self.embed(c_noise, class_labels, dial)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for layer in self.enc.values():
            x = self._block(layer, x, emb, masks) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for name, layer in self.dec.items():
            if "block" in name:
                x = mp_cat(x, skips.pop(), self.config.concat_balance)
            x = self._block(layer, x, emb, masks)
        out: Tensor = self.out_conv(x, gain=self.out_gain)
        return out

    def _block(self, block: nn.Module, x: Tensor, emb: Tensor, masks: Masks | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            kept: Tensor = checkpoint(block, x, emb, masks, use_reentrant=False)
            return kept
        out: Tensor = block(x, emb, masks)
        return out
