"""Whether two changes of a model move the same images in the same direction of feature space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity


@dataclass(frozen=True)
class Similarity:
    """How alike two shifts away from the same base images are.

    classes: cosine between the mean shifts of a class, the mean over classes. images: cosine
    between the shifts of one image, the mean over images. control: as images, but with the second
    shift taken to another image of the class; two shifts share the base image they start from, so
    this is not 0. length: of the second class shifts relative to the first, sums over classes; 0
    where the first does not move.
    """

    classes: float
    images: float
    control: float
    length: float


def similarity(base: Tensor, first: Tensor, second: Tensor, labels: Tensor) -> Similarity:
    """Compare the shifts base → first and base → second.

    Args:
        base, first, second: features (N, d) of the images of the same seeds and labels.
        labels: (N,); every class needs at least two images.
    """
    one, other = first - base, second - base
    classes = labels.unique()
    a, b = (torch.stack([shift[labels == c].mean(0) for c in classes]) for shift in (one, other))
    start, moved = a.norm(dim=1).sum(), b.norm(dim=1).sum()
    elsewhere = second[_another_of_class(labels)] - base
    return Similarity(
        cosine_similarity(a, b).mean().item(),
        cosine_similarity(one, other).mean().item(),
        cosine_similarity(one, elsewhere).mean().item(),
        (moved / start).item() if start else 0.0,
    )


def _another_of_class(labels: Tensor) -> Tensor:
    """For each image the next one of its class, the first after the last: (N,)."""
    order = torch.empty_like(labels)
    for c in labels.unique():
        rows = (labels == c).nonzero().flatten()
        order[rows] = rows.roll(-1)
    return order
