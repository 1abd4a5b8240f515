"""VAR as its paper writes it: no cache, one pass per condition, every token computed anew.

The yardstick of correctness and speed for ``mclr.models.var`` and its sampler. Module names are
those of the library, so one state dict fits both. No drop path and no shared modulation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclr.models.var.config import VarConfig, scale_spans
from mclr.models.var.vqvae import Vqvae


class PlainAttention(nn.Module):
    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.scale_mul_1H11 = nn.Parameter(torch.zeros(1, self.heads, 1, 1))
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.mat_qkv(x).chunk(3, dim=-1)
        q, v = q + self.q_bias, v + self.v_bias
        q, k, v = (t.view(n, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        q = F.normalize(q, dim=-1) * self.scale_mul_1H11.clamp(max=math.log(100)).exp()
        scores = q @ F.normalize(k, dim=-1).transpose(-2, -1) + mask
        h = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        out: Tensor = self.proj(h)
        return out


class PlainFeedForward(nn.Module):
    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        hidden = round(config.width * config.mlp_ratio)
        self.fc1, self.fc2 = nn.Linear(config.width, hidden), nn.Linear(hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


class PlainBlock(nn.Module):
    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        width = config.width
        self.attn, self.ffn = PlainAttention(config), PlainFeedForward(config)
        self.ln = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, cond: Tensor, mask: Tensor) -> Tensor:
        modulation = self.ada_lin(cond)[:, None].chunk(6, dim=-1)
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation
        x = x + gamma1 * self.attn((1 + scale1) * self.ln(x) + shift1, mask)
        return x + gamma2 * self.ffn((1 + scale2) * self.ln(x) + shift2)


class PlainHeadNorm(nn.Module):
    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(config.width, eps=config.norm_eps, elementwise_affine=False)
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.ada_lin(cond)[:, None].chunk(2, dim=-1)
        out: Tensor = (1 + scale) * self.ln(x) + shift
        return out


class PlainVar(nn.Module):
    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        self.spans, self.null_label = scale_spans(config.patch_nums), config.num_classes
        width = config.width
        self.word_embed = nn.Linear(config.z_channels, width)
        self.class_emb = nn.Embedding(config.num_classes + 1, width)
        self.pos_start = nn.Parameter(torch.zeros(1, config.first_length, width))
        self.pos_1LC = nn.Parameter(torch.zeros(1, config.length, width))
        self.lvl_embed = nn.Embedding(len(config.patch_nums), width)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.depth))
        self.head_nm, self.head = PlainHeadNorm(config), nn.Linear(width, config.vocab_size)
        self.register_buffer("lvl_1L", torch.zeros(1, config.length, dtype=torch.int64))
        self.register_buffer(
            "attn_bias_for_masking", torch.zeros(1, 1, config.length, config.length)
        )

    def forward(self, labels: Tensor, inputs: Tensor) -> Tensor:
        """Logits (N, l, V) of the first l tokens, from the l - first_l inputs that precede them."""
        cond = self.class_emb(labels)
        x = torch.cat([cond[:, None] + self.pos_start, self.word_embed(inputs)], dim=1)
        length = x.shape[1]
        x = x + self.lvl_embed(self.get_buffer("lvl_1L")[:, :length]) + self.pos_1LC[:, :length]
        mask = self.get_buffer("attn_bias_for_masking")[:, :, :length, :length]
        for block in self.blocks:
            x = block(x, cond, mask)
        logits: Tensor = self.head(self.head_nm(x, cond))
        return logits

    def log_likelihood(self, labels: Tensor, tokens: Tensor, inputs: Tensor) -> Tensor:
        logp = self(labels, inputs).log_softmax(-1)
        return logp.gather(2, tokens[:, :, None]).sum((1, 2))


@torch.no_grad()
def plain_var_sample(
    var: PlainVar, vqvae: Vqvae, labels: Tensor, uniforms: Tensor, cfg: float
) -> Tensor:
    """Tokens (N, L): all scales so far go through the transformer again for each new scale."""
    n, last = len(labels), len(var.spans) - 1
    side, channels = vqvae.config.patch_nums[-1], vqvae.config.z_channels
    fhat, inputs, grids = torch.zeros(n, channels, side, side), torch.zeros(n, 0, channels), []
    for si, (begin, end) in enumerate(var.spans):
        logits = var(labels, inputs)[:, begin:end]
        if cfg > 0:
            without = var(torch.full_like(labels, var.null_label), inputs)[:, begin:end]
            logits = (1 + cfg * si / last) * logits - cfg * si / last * without
        cdf = logits.softmax(-1).double().cumsum(-1)
        target = (uniforms[:, begin:end, None] * cdf[..., -1:]).contiguous()
        grids.append(torch.searchsorted(cdf, target, right=True)[..., 0])
        fhat, following = vqvae.next_input(si, fhat, vqvae.quantize.embed(si, grids[-1]))
        inputs = torch.cat([inputs, following.flatten(2).transpose(1, 2)], dim=1)
    return torch.cat(grids, dim=1)
