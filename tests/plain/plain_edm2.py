"""EDM2 as the papers write it: every formula one line, nothing cached, merged or shared.

The yardstick of correctness and speed for ``mclr.models.edm2``: weights are normalised in every
forward pass, also when sampling, and activations keep torch's default layout. Module names are
those of the library, so one state dict fits both. Without dropout; box resampling.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclr.models.edm2.config import Edm2Network


def normalize(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    return x / (1e-4 + x.square().mean(dim=dim, keepdim=True).sqrt())


def mp_silu(x: Tensor) -> Tensor:
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


def mp_cat(a: Tensor, b: Tensor, t: float) -> Tensor:
    n_a, n_b = a.shape[1], b.shape[1]
    scale = math.sqrt((n_a + n_b) / ((1 - t) ** 2 + t**2))
    return torch.cat([scale * (1 - t) / math.sqrt(n_a) * a, scale * t / math.sqrt(n_b) * b], dim=1)


class PlainFourier(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.zeros(channels))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        angle = x[:, None] * self.get_buffer("freqs") + self.get_buffer("phases")
        return math.sqrt(2) * angle.cos()


class PlainConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, *kernel))

    def forward(self, x: Tensor) -> Tensor:
        w = normalize(self.weight, dim=tuple(range(1, self.weight.ndim)))
        w = w / math.sqrt(w[0].numel())
        return F.linear(x, w) if w.ndim == 2 else F.conv2d(x, w, padding=w.shape[-1] // 2)


class PlainBlock(nn.Module):
    def __init__(
        self,
        c_in: int,
        c_out: int,
        c_emb: int,
        config: Edm2Network,
        encoder: bool,
        mode: str = "keep",
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.encoder, self.mode, self.c_out = config, encoder, mode, c_out
        self.heads = c_out // config.channels_per_head if attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = PlainConv(c_out if encoder else c_in, c_out, (3, 3))
        self.emb_linear = PlainConv(c_emb, c_out)
        self.conv_res1 = PlainConv(c_out, c_out, (3, 3))
        self.conv_skip = PlainConv(c_in, c_out, (1, 1)) if c_in != c_out else nn.Identity()
        if self.heads:
            self.attn_qkv = PlainConv(c_out, 3 * c_out, (1, 1))
            self.attn_proj = PlainConv(c_out, c_out, (1, 1))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.mode == "down":
            x = F.avg_pool2d(x, 2)
        elif self.mode == "up":
            x = F.interpolate(x, scale_factor=2)
        if self.encoder:
            x = normalize(self.conv_skip(x), dim=(1,))
        y = self.conv_res0(mp_silu(x))
        scale = 1 + self.emb_gain * self.emb_linear(emb)
        y = self.conv_res1(mp_silu(y * scale[:, :, None, None]))
        if not self.encoder:
            x = self.conv_skip(x)
        x = mp_sum(x, y, self.config.res_balance)
        if self.heads:
            x = mp_sum(x, self.attn_proj(self.attend(x)), self.config.attn_balance)
        limit = self.config.clip_act
        return x if limit is None else x.clamp(-limit, limit)

    def attend(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.attn_qkv(x).reshape(n, self.heads, c // self.heads, 3, h * w)
        q, k, v = normalize(qkv, dim=(2,)).unbind(3)
        scores = torch.einsum("nhcq,nhck->nhqk", q, k) / math.sqrt(c // self.heads)
        return torch.einsum("nhqk,nhck->nhcq", scores.softmax(-1), v).reshape(n, c, h, w)


class PlainUNet(nn.Module):
    def __init__(self, config: Edm2Network) -> None:
        super().__init__()
        self.config = c = config
        widths = [c.model_channels * m for m in c.channel_mult]
        c_noise = c.model_channels * (c.channel_mult_noise or c.channel_mult[0])
        c_emb = c.model_channels * (c.channel_mult_emb or max(c.channel_mult))
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = PlainFourier(c_noise)
        self.emb_noise = PlainConv(c_noise, c_emb)
        self.emb_label = PlainConv(c.label_dim, c_emb)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        width, skips = c.img_channels + 1, []
        for level, channels in enumerate(widths):
            side = c.img_resolution >> level
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = PlainConv(width, channels, (3, 3))
                width = channels
            else:
                self.enc[f"{side}x{side}_down"] = PlainBlock(width, width, c_emb, c, True, "down")
            skips.append(width)
            for i in range(c.num_blocks):
                block = PlainBlock(
                    width, channels, c_emb, c, True, attention=side in c.attn_resolutions
                )
                self.enc[f"{side}x{side}_block{i}"] = block
                width = channels
                skips.append(width)
        for level, channels in reversed(list(enumerate(widths))):
            side = c.img_resolution >> level
            if level == len(widths) - 1:
                first = PlainBlock(width, width, c_emb, c, False, attention=True)
                self.dec[f"{side}x{side}_in0"] = first
                self.dec[f"{side}x{side}_in1"] = PlainBlock(width, width, c_emb, c, False)
            else:
                self.dec[f"{side}x{side}_up"] = PlainBlock(width, width, c_emb, c, False, "up")
            for i in range(c.num_blocks + 1):
                block = PlainBlock(
                    width + skips.pop(),
                    channels,
                    c_emb,
                    c,
                    False,
                    attention=side in c.attn_resolutions,
                )
                self.dec[f"{side}x{side}_block{i}"] = block
                width = channels
        self.out_conv = PlainConv(width, c.img_channels, (3, 3))

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:
        emb = self.emb_noise(self.emb_fourier(c_noise))
        label = self.emb_label(labels * math.sqrt(labels.shape[1]))
        emb = mp_silu(mp_sum(emb, label, self.config.label_balance))
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        skips = []
        for layer in self.enc.values():
            x = layer(x, emb) if isinstance(layer, PlainBlock) else layer(x)
            skips.append(x)
        for name, layer in self.dec.items():
            if "block" in name:
                x = mp_cat(x, skips.pop(), self.config.concat_balance)
            x = layer(x, emb)
        out: Tensor = self.out_gain * self.out_conv(x)
        return out


class PlainPrecond(nn.Module):
    """D(x; σ, c) of (N, C, H, W), (N,) and one-hot labels (N, label_dim); any float type."""

    def __init__(self, config: Edm2Network) -> None:
        super().__init__()
        self.sigma_data = config.sigma_data
        self.unet = PlainUNet(config)
        self.logvar_fourier = PlainFourier(config.logvar_channels)
        self.logvar_linear = PlainConv(config.logvar_channels, 1)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        s, s_d = sigma.view(-1, 1, 1, 1), self.sigma_data
        c_skip = s_d**2 / (s**2 + s_d**2)
        c_out = s * s_d / (s**2 + s_d**2).sqrt()
        c_in = 1 / (s**2 + s_d**2).sqrt()
        return c_skip * x + c_out * self.unet(c_in * x, sigma.log() / 4, labels)

    def log_variance(self, sigma: Tensor) -> Tensor:
        """u(σ): (N,) to (N, 1, 1, 1)."""
        u: Tensor = self.logvar_linear(self.logvar_fourier(sigma.log() / 4))
        return u.view(-1, 1, 1, 1)
