"""How well a frozen model tells the classes of images apart, and how far pixels are driven."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mclr.models.family import Family


@dataclass(frozen=True)
class Ratios:
    """Inter-class likelihood ratios of a set of images.

    mean: of ℓ(x, c) − ℓ(x, c̃) over images and over the other classes c̃; error: its standard
    error over images; top: the share of images likelier under their own class than under any
    other.
    """

    mean: float
    error: float
    top: float


def contrast_labels(labels: Tensor, classes: int, others: int) -> Tensor:
    """Each label followed by at most ``others`` other ones, evenly spread: (N, 1 + others)."""
    n = min(others, classes - 1)
    offsets = torch.linspace(1, classes - 1, n).round().long()
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), offsets])
    return (labels[:, None] + offsets) % classes


# Section 3.1: log p(x|c) / p(x|c̃), here with the one-draw surrogate of Section 3.5 averaged over
# M draws that all classes share; exact likelihoods take none.
@torch.no_grad()
def likelihood_ratios(
    family: Family, net: nn.Module, x: Tensor, labels: Tensor, M: int, generator: torch.Generator
) -> Tensor:
    """ℓ(x, labels[:, 0]) − ℓ(x, labels[:, j]) for each other label: (N, L − 1).

    x: (N, …) as ``net`` models it; labels (N, L).
    """
    draws = [family.draw(x, generator) for _ in range(M)]
    if draws[0].sigma is None:
        draws = draws[:1]  # exact
    total = torch.zeros(labels.shape, dtype=torch.float64)
    for draw in draws:
        columns = [family.log_likelihood(net, x, column, draw) for column in labels.T]
        total += torch.stack(columns, 1).double().cpu()
    return (total[:, :1] - total[:, 1:]) / len(draws)


def summarise(ratios: Tensor) -> Ratios:
    """Ratios (N, L − 1) as three numbers."""
    of_image = ratios.mean(1)
    error = of_image.std() / len(of_image) ** 0.5
    return Ratios(of_image.mean().item(), error.item(), (ratios > 0).all(1).double().mean().item())


def pixel_statistics(images: Tensor) -> dict[str, float]:
    """Of uint8 images (N, C, H, W): shares of black and white values, contrast, saturation.

    contrast: standard deviation within an image; saturation: largest minus smallest channel; both
    of values from 0 to 1, the mean over images.
    """
    values = images.double() / 255
    return {
        "black": (images == 0).double().mean().item(),
        "white": (images == 255).double().mean().item(),
        "contrast": values.flatten(1).std(1).mean().item(),
        "saturation": (values.amax(1) - values.amin(1)).mean().item(),
    }
