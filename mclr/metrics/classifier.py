"""The feature net of small tiers: a classifier trained on the real training split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH = 1_000
"""Real images per pass of a feature net: their activations are in memory together."""


class Classifier(nn.Module):
    """Small convolutional classifier of uint8 images.

    ``forward`` returns the penultimate layer (N, dimensions), used for FD, precision and recall,
    and the logits (N, num_classes), used for the Inception Score.
    """

    def __init__(self, image_channels: int, channels: int, dimensions: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * channels, dimensions),
            nn.ReLU(),
        )
        self.head = nn.Linear(dimensions, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of uint8 images (N, C, H, W)."""
        features = self.body(images.float() / 127.5 - 1)
        return features, self.head(features)


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is their label."""
    return hits(torch.cat([net(part)[1] for part in images.split(BATCH)]), labels)


def hits(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit (N, classes) is their label (N,)."""
    return float((logits.argmax(1) == labels).float().mean())
