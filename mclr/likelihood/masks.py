"""Dropout masks that belong to samples: shared by networks and by all rows of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mclr.device import move

BITS = 2**32 - 1
MIX = 0x45D9F3B  # below 2^31: no product of 32 bits with it overflows int64
LAYER, ELEMENT = 0x1E35A7BD, 0x2545F491  # odd: each number has its own product modulo 2^32


@dataclass(frozen=True)
class Masks:
    """What dropout at ``rate`` drops of N samples, by their ``seeds`` (N,), int64 below 2^31.

    A mask is a hash of seed, layer and element: the same in any batch, of any device, for every
    network and however often it is asked for. No generator takes part.
    """

    seeds: Tensor
    rate: float

    def take(self, index: Tensor) -> Masks:
        """The masks of the rows ``index``."""
        return Masks(self.seeds[index], self.rate)

    def to(self, device: torch.device) -> Masks:
        """The same masks, for networks on ``device``."""
        return Masks(move(self.seeds, device), self.rate)

    def join(self, other: Masks) -> Masks:
        """The masks of this batch followed by those of another."""
        return Masks(torch.cat([self.seeds, other.seeds]), self.rate)

    def drop(self, x: Tensor, layer: int, share: float = 1.0, each: int | None = None) -> Tensor:
        """x (N, …) with elements dropped at ``share`` of the rate, the others scaled up.

        each: how many axes after the first have draws of their own; along the others all elements
        of a sample are dropped together. None: all axes.
        """
        rate = share * self.rate
        if rate == 0:
            return x
        own = x.shape[1:] if each is None else x.shape[1 : 1 + each]
        kept = self._bits(layer, own) >= round(rate * 2**32)
        kept = kept.view(len(x), *own, *[1] * (x.ndim - 1 - len(own)))
        return x * kept.to(x.dtype) / (1 - rate)

    def _bits(self, layer: int, shape: Sequence[int]) -> Tensor:
        """32 random bits for each element of samples of ``shape``: (N, elements), int64."""
        elements = torch.arange(prod(shape), device=self.seeds.device) * ELEMENT & BITS
        rows = _mixed(self.seeds + (layer + 1) * LAYER & BITS)
        return _mixed(rows[:, None] ^ elements)


def _mixed(bits: Tensor) -> Tensor:
    """A one-to-one map of 32 bits under which near values become unlike ones."""
    for _ in range(2):
        bits = ((bits >> 16) ^ bits) * MIX & BITS
    return (bits >> 16) ^ bits
