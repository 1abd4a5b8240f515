"""Images to what a network works on, and back: what encoders offer, and plain pixels.

An encoder has a slow half, ``encode_pixels``, whose raw result is stored with the data set, and a
fast half, ``encode_latents``, applied whenever an image is used.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Generator, Tensor

from mclr.errors import UserError
from mclr.models.finite import note_finite


class Encoder(Protocol):
    """What every encoder offers; N images of height H and width W."""

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to the raw form that is stored: a pure function of the image."""

    def encode_latents(
        self, raw: Tensor, generator: Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """Raw form to the model's x (N, …), float32, with zero mean and known deviation."""

    def decode(self, x: Tensor) -> Tensor:
        """The model's x to uint8 (N, C, H, W)."""


class RgbEncoder:
    """Pixels themselves, as in EDM2's ImageNet-64: x in [−1, 1], any number of channels."""

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """The pixels unchanged; UserError unless uint8 (N, C, H, W)."""
        check_pixels(pixels)
        return pixels

    def encode_latents(
        self, raw: Tensor, generator: Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """x = raw / 127.5 − 1; nothing is drawn."""
        return raw.float() / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        """127.5 x + 128, clipped, fractions cut off; of finite x alone."""
        note_finite(x)
        return (x.float() * 127.5 + 128).clip(0, 255).to(torch.uint8)


def check_pixels(pixels: Tensor) -> None:
    """UserError unless these are uint8 images (N, C, H, W)."""
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise UserError(
            f"images of type {pixels.dtype} and shape {tuple(pixels.shape)}: expected uint8 "
            "(N, C, H, W) with values 0 to 255"
        )
