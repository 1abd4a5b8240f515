"""EDM2 U-Net built from magnitude-preserving operations.

Equation numbers are those of Karras et al. 2024 (arXiv 2312.02696). Parameter and
buffer names are the official ones, so official state dicts load unchanged. The forward pass
never changes a parameter: weights are normalised functionally, and the forced normalisation of
training is the separate call ``MPConv.normalize_weight_``.

Legend for shapes: N batch, C channels, H x W pixels, L = H * W, E embedding channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.models.edm2.config import Edm2Network

Resample = Literal["keep", "down", "up"]
EPS = 1e-4  # keeps a zero vector finite in normalisation


def _rms(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Root mean square of ``x`` over ``dim``: float32, dims kept, gradient 0 where x is 0."""
    if x.dtype == torch.float32:  # on CPUs far faster than vector_norm over a strided axis
        return x.square().mean(dim=dim, keepdim=True).clamp_min(1e-30).sqrt()
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float32)
    return norm * math.sqrt(norm.numel() / x.numel())


# Section 2.4 (pixel norm) and, over a weight's rows, Eq. 66 (forced weight normalisation)
def normalize(x: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """Scale ``x`` to root-mean-square 1 over ``dim`` (default: all but the first); same shape."""
    dims = tuple(range(1, x.ndim)) if dim is None else dim
    return x / (_rms(x, dims) + EPS).to(x.dtype)


# Eq. 81
def mp_silu(x: Tensor) -> Tensor:
    """SiLU divided by its root mean square under N(0, 1) inputs; same shape."""
    return F.silu(x).div_(0.596)


# Eq. 88
def mp_sum(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Blend (1-t) a + t b of broadcastable unit-variance tensors, keeping unit variance."""
    return torch.lerp(a, b, t).div_(math.hypot(1 - t, t))


# Eq. 103
def mp_cat(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Join (N, Ca, ...) and (N, Cb, ...) along channels; ``b`` gets the share t of magnitude."""
    n_a, n_b = a.shape[1], b.shape[1]
    scale = math.sqrt((n_a + n_b) / ((1 - t) ** 2 + t**2))
    w_a, w_b = scale / math.sqrt(n_a) * (1 - t), scale / math.sqrt(n_b) * t
    return torch.cat([a * w_a, b * w_b], dim=1)


def resample(x: Tensor, taps: Sequence[float] = (1, 1), mode: Resample = "keep") -> Tensor:
    """Halve, keep or double the sides of (N, C, H, W) with the separable filter ``taps``.

    ``taps`` is normalised to sum 1; outside the image is zero.
    """
    if mode == "keep":
        return x
    if tuple(taps) == (1, 1):  # box filter: the same result without a convolution
        return F.avg_pool2d(x, 2) if mode == "down" else F.interpolate(x, scale_factor=2.0)
    line = torch.tensor(taps, dtype=torch.float32)
    line = line / line.sum()
    kernel = torch.outer(line, line).to(x).expand(x.shape[1], 1, -1, -1)
    pad = (len(taps) - 1) // 2
    if mode == "down":
        return F.conv2d(x, kernel, stride=2, padding=pad, groups=x.shape[1])
    return F.conv_transpose2d(x, kernel * 4, stride=2, padding=pad, groups=x.shape[1])


class MPFourier(nn.Module):
    """Random Fourier features of a scalar: (N,) -> (N, num_channels), Eq. 75."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.zeros(num_channels))
        self.register_buffer("phases", torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.addcmul(self.phases.float(), x.float()[:, None], self.freqs.float())
        return (angle.cos() * math.sqrt(2)).to(x.dtype)


class MPConv(nn.Module):
    """Bias-free linear layer (``kernel=()``) or same-size convolution, unit-norm weights.

    ``forward(x, gain)``: x is (N, in) or (N, in, H, W); result has the type of x.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, *kernel))

    # Eq. 47: w gain / (sqrt(fan_in) rms(w)), one factor per output row
    def effective_weight(self, gain: Tensor | float = 1.0) -> Tensor:
        """The weight that is applied: normalised per output row, times gain / sqrt(fan_in)."""
        w = self.weight.float()
        root = math.sqrt(w[0].numel())
        norm: Tensor = torch.linalg.vector_norm(w, dim=tuple(range(1, w.ndim)), keepdim=True)
        return w * (gain / root / (norm / root + EPS))

    @torch.no_grad()
    def normalize_weight_(self) -> None:
        """Forced weight normalisation (Eq. 66): overwrite the weight by its normalised self."""
        self.weight.copy_(normalize(self.weight.float()))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        w = self.effective_weight(gain).to(x.dtype)
        if w.ndim == 2:
            return F.linear(x, w)
        return F.conv2d(x, w, padding=w.shape[-1] // 2)


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
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(inner, out_channels, (3, 3))
        self.emb_linear = MPConv(emb_channels, out_channels)
        self.conv_res1 = MPConv(out_channels, out_channels, (3, 3))
        widen = in_channels != out_channels
        self.conv_skip = MPConv(in_channels, out_channels, (1, 1)) if widen else None
        attn = self.num_heads > 0
        self.attn_qkv = MPConv(out_channels, out_channels * 3, (1, 1)) if attn else None
        self.attn_proj = MPConv(out_channels, out_channels, (1, 1)) if attn else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        c = self.config
        x = resample(x, c.resample_filter, self.resample_mode)
        if self.encoder:
            x = normalize(x if self.conv_skip is None else self.conv_skip(x), dim=(1,))
        y = self._residual(x, emb)
        if not self.encoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = mp_sum(x, y, c.res_balance)
        if self.attn_qkv is not None and self.attn_proj is not None:
            x = mp_sum(x, self.attn_proj(self._attend(self.attn_qkv(x))), c.attn_balance)
        return x if c.clip_act is None else x.clamp_(-c.clip_act, c.clip_act)

    def _residual(self, x: Tensor, emb: Tensor) -> Tensor:
        """Two convolutions, modulated by the embedding: (N, C, H, W) -> (N, out, H, W)."""
        y = self.conv_res0(mp_silu(x))
        scale = self.emb_linear(emb, gain=self.emb_gain) + 1
        y = mp_silu(y * scale[:, :, None, None].to(y.dtype))
        y = F.dropout(y, self.config.dropout, self.training)
        out: Tensor = self.conv_res1(y)
        return out

    def _attend(self, qkv: Tensor) -> Tensor:
        """Cosine attention over pixels: (N, 3C, H, W) -> (N, C, H, W).

        Channels are ordered head, channel, (q, k, v); q, k and v are unit rms per head and pixel.
        """
        n, _, h, w = qkv.shape
        split = qkv.reshape(n, self.num_heads, -1, 3, h * w)
        q, k, v = normalize(split, dim=(2,)).unbind(3)  # each (N, heads, C / heads, L)
        weights = (q.transpose(-2, -1) @ (k / math.sqrt(k.shape[2]))).softmax(dim=-1)
        return (v @ weights.transpose(-2, -1)).reshape(n, -1, h, w)


class UNet(nn.Module):
    """EDM2 U-Net F(x; c_noise, label): (N, C, H, W) -> (N, C, H, W) in the type of x."""

    def __init__(self, config: Edm2Network) -> None:
        super().__init__()
        self.config = config
        widths = [config.model_channels * m for m in config.channel_mult]
        mult_noise, mult_emb = config.channel_mult_noise, config.channel_mult_emb
        c_noise = config.model_channels * mult_noise if mult_noise else widths[0]
        c_emb = config.model_channels * mult_emb if mult_emb else max(widths)
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(c_noise)
        self.emb_noise = MPConv(c_noise, c_emb)
        self.emb_label = MPConv(config.label_dim, c_emb) if config.label_dim else None
        self.enc = self._encoder(widths, c_emb)
        self.dec = self._decoder(widths, c_emb)
        self.out_conv = MPConv(widths[0], config.img_channels, (3, 3))

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

    def embed(self, c_noise: Tensor, class_labels: Tensor | None) -> Tensor:
        """Embedding of noise level (N or 1,) and labels (N or 1, label_dim): (N or 1, E)."""
        emb = self.emb_noise(self.emb_fourier(c_noise))
        if self.emb_label is not None and class_labels is not None:
            label = self.emb_label(class_labels * math.sqrt(class_labels.shape[1]))
            emb = mp_sum(emb, label, self.config.label_balance)
        return mp_silu(emb)

    def forward(self, x: Tensor, c_noise: Tensor, class_labels: Tensor | None) -> Tensor:
        emb = self.embed(c_noise, class_labels)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        skips = []
        for layer in self.enc.values():
            x = layer(x, emb) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for name, layer in self.dec.items():
            if "block" in name:
                x = mp_cat(x, skips.pop(), self.config.concat_balance)
            x = layer(x, emb)
        out: Tensor = self.out_conv(x, gain=self.out_gain)
        return out
