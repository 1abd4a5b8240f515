"""A third family, as small as it gets: independent Gaussian pixels around a picture of each class.

snakemake --configfile config/own.yaml --cores 2 -- all
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mclr.models import Draw, OwnFamily, seeded_noise


class ClassPictures(nn.Module):
    """A picture and a spread for each class, and for the null label."""

    def __init__(self, classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(classes + 1, *shape))
        self.log_std = nn.Parameter(torch.zeros(classes + 1, *shape))


class GaussianPixels(OwnFamily):
    """p(x|c): each pixel N(mean_c, std_c²), none below the option ``least_std``."""

    def build(self, generator: torch.Generator) -> nn.Module:
        return ClassPictures(self.manifest.num_classes, self.manifest.shape)

    def _moments(self, net: nn.Module, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(net, ClassPictures)
        return net.mean[labels], net.log_std[labels].exp() + self.options["least_std"]

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        mean, std = self._moments(net, labels)
        return torch.distributions.Normal(mean, std).log_prob(x).sum((1, 2, 3))

    # CFG of Gaussian scores: the precisions mix, and so do the means they weigh (Eq. 7).
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
        labels = labels.to(self.device)
        mean, std = self._moments(net, labels)
        null = torch.full_like(labels, self.manifest.num_classes)
        mean_0, std_0 = self._moments(guide or net, labels if guide else null)
        precision = (1 + guidance) / std**2 - guidance / std_0**2
        precision = precision.clamp(min=0.5 / std**2)
        centre = ((1 + guidance) * mean / std**2 - guidance * mean_0 / std_0**2) / precision
        noise = seeded_noise(seeds, self.manifest.shape).to(self.device)
        return centre + noise * precision.rsqrt()
