"""The vision transformer of DINOv2 (Oquab et al. 2023, arXiv 2304.07193), for inference.

Names of the parameters are those of the published weights. N images, L patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class VitConfig:
    """Sizes; ``grid``: the stored position embeddings are for grid × grid patches."""

    width: int
    depth: int
    heads: int
    patch: int
    grid: int


VIT_L_14 = VitConfig(width=1024, depth=24, heads=16, patch=14, grid=37)


class Vit(nn.Module):
    """Pre-norm transformer over [CLS, patches] with learned positions and layer scale.

    Also works under ``torch.device("meta")``.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens = config.width, config.grid**2 + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        # In the published file; only the masked images of pre-training use it.
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = _layer_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """The CLS token after the last norm, (N, D).

        x: normalised images (N, 3, H, W), H and W multiples of the patch.
        """
        patches = self.patch_embed.proj(x)
        positions = interpolate_positions(self.pos_embed, patches.shape[-2], patches.shape[-1])
        cls = self.cls_token.expand(len(x), -1, -1)
        tokens = torch.cat([cls, patches.flatten(2).mT], dim=1) + positions
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.norm(tokens[:, 0])
        return features


class PatchEmbed(nn.Module):
    """One linear map per patch."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, stride=config.patch)


class Block(nn.Module):
    """x + γ₁ attention(norm x), then x + γ₂ mlp(norm x)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = _layer_norm(config.width)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config.width)
        self.norm2 = _layer_norm(config.width)
        self.mlp = Mlp(config.width)
        self.ls2 = LayerScale(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, 1 + L, D)."""
        x = x + self.ls1.gamma * self.attn(self.norm1(x))
        mixed: Tensor = self.ls2.gamma * self.mlp(self.norm2(x))
        return x + mixed


class Attention(nn.Module):
    """Multi-head self-attention; q, k and v in one linear map."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, 1 + L, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Mlp(nn.Module):
    """Linear, exact GELU, linear; four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, D)."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))


def interpolate_positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """Position embeddings for rows × columns patches: (1, 1 + rows·columns, D).

    table: (1, 1 + grid², D), CLS first. As in DINOv2's published code: bicubic without antialias,
    and the scale is (rows + 0.1) / grid, not rows / grid. The offset only guarded against
    rounding, but it moves the samples and so belongs to the features.
    """
    cls, patches = table[:, :1], table[:, 1:]
    grid = round(patches.shape[1] ** 0.5)
    if (rows, columns) == (grid, grid):
        return table
    resized = F.interpolate(
        patches.mT.unflatten(2, (grid, grid)),
        scale_factor=((rows + 0.1) / grid, (columns + 0.1) / grid),
        mode="bicubic",
    )
    return torch.cat([cls, resized.flatten(2).mT], dim=1)


def _layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)
