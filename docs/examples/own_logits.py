"""A family that tells its logits: black and white pixels, independent given the class.

snakemake --configfile tests/workflow/own.yaml --cores 2 -- all
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mclr.models import Draw, Logits, OwnFamily, seeded_uniforms


class ClassLogits(nn.Module):
    """A logit of white for each pixel, of every class and of the null label."""

    def __init__(self, classes: int, pixels: int) -> None:
        super().__init__()
        self.white = nn.Parameter(torch.zeros(classes + 1, pixels))


class BlackAndWhite(OwnFamily):
    """x (N, L) is 1 where a pixel is at least half white."""

    @property
    def pixels(self) -> int:
        channels, height, width = self.manifest.shape
        return channels * height * width

    def build(self, generator: torch.Generator) -> nn.Module:
        return ClassLogits(self.manifest.num_classes, self.pixels)

    def encode(self, images: Tensor) -> Tensor:
        return (images >= 128).flatten(1).to(torch.uint8)

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return rows.long()

    def decode(self, x: Tensor) -> Tensor:
        return (x * 255).to(torch.uint8).view(-1, *self.manifest.shape)

    # Objectives that imitate guidance mix these as `generate` does.
    def predict(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Logits:
        assert isinstance(net, ClassLogits)
        white = net.white[labels]
        return Logits(torch.stack([torch.zeros_like(white), white], dim=2))

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return self.predict(net, x, labels, draw).log_likelihood(x)

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
        assert isinstance(net, ClassLogits)
        white, null = net.white[labels.to(self.device)], net.white[self.manifest.num_classes]
        chance = (white + guidance * (white - null)).sigmoid()
        return (seeded_uniforms(seeds, self.pixels).to(chance) < chance).long()
