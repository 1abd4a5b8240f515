"""Squared distances from float32 matrix products, with bounds of what rounding does to them.

N images, d dimensions. What is bounded is d²(x, y) = Σ (xᵢ − yᵢ)², summed in float64; with μ a
centre, s a power of 2, a = s (x − μ) and b = s (y − μ) it is (‖a‖² + ‖b‖² − 2aᵀb) / s².
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PAIRS = 256
"""Pairs that are summed at once: always as many, so that equal pairs have equal sums anywhere."""

PIECE = 1024
"""Images of which a copy in float64 is in memory."""

NARROW = 2.0**40
"""Times the scale's reach, up to which squares are far from float32's largest number."""

FACTOR = 16
"""Images of a convolution: from so many on torch gives it to oneDNN on one thread, too."""


@dataclass(frozen=True)
class Part:
    """Some images: ``x`` (n, d) and, of their scaled squared distances, ``low`` and ``error`` (n,).

    low[i] + low[j] − 2 xᵢᵀxⱼ is at most s² d², however it is rounded, and at most
    2 (error[i] + error[j]) below it.
    """

    x: Tensor
    low: Tensor
    error: Tensor

    def first(self, n: int) -> Part:
        """The first n of them."""
        return Part(self.x[:n], self.low[:n], self.error[:n])


class Cloud:
    """Features (N, d) whose distances to each other, or to those of ``like``, are bounded.

    Bounds are tight where images are as close to the centre as to each other, hence μ is the mean,
    and all values are within ±1. ``like``: images whose centre and scale are taken over.
    """

    def __init__(self, features: Tensor, like: Cloud | None = None) -> None:
        known = features.dtype in (torch.float32, torch.float64)
        self.features = features if known else features.double()
        centre = like.centre if like else _mean(self.features)
        self.centre: Tensor = centre.to(self.features)
        reach = max(_largest(piece - self.centre) for piece in self._pieces())
        self.scale: float = like.scale if like else _power(reach)
        self.narrow = reach * self.scale <= NARROW
        # Into one tensor: small ones that stay, between large ones that go, would tear the heap.
        self.squares = self.centre.new_empty(len(features), dtype=torch.float64)
        for piece, squares in zip(self._pieces(), self.squares.split(PIECE), strict=True):
            squares.copy_(self._shifted(piece).square_().sum(1))

    def __len__(self) -> int:
        return len(self.features)

    def part(self, rows: slice | Tensor, dtype: torch.dtype) -> Part:
        """Images of some rows, for products of a number type."""
        error = self.error(rows, dtype)
        wide = torch.promote_types(self.features.dtype, dtype)
        x = (self.features[rows].to(wide) - self.centre.to(wide)).mul_(self.scale).to(dtype)
        return Part(x, (self.squares[rows] - error).to(dtype), error)

    def error(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Their share in the error of a squared distance by products of a number type."""
        d = self.features.shape[1]
        # The second: what is lost where products are below the smallest number, and taken for 0.
        return relative_error(d, dtype) * self.squares[rows] + 8 * d * torch.finfo(dtype).tiny

    def _pieces(self) -> tuple[Tensor, ...]:
        pieces: tuple[Tensor, ...] = self.features.split(PIECE)
        return pieces

    def _shifted(self, piece: Tensor) -> Tensor:
        return (piece.double() - self.centre.double()).mul_(self.scale)


# Higham 2002, Eq. (3.5): a product of d terms in any order is within γ_d ‖a‖ ‖b‖, and
# 2 ‖a‖ ‖b‖ ≤ ‖a‖² + ‖b‖². Centring, scaling, rounding the squares and adding take 13 units of
# ‖a‖² + ‖b‖² at most, the sum in float64 another 2 γ_(d+3) of its own: γ_(d+32) has room.
def relative_error(d: int, dtype: torch.dtype) -> float:
    """Largest rounding error of a squared distance, as a share of ‖a‖² + ‖b‖²."""
    return _gamma(d + 32, dtype) + 2 * _gamma(d + 32, torch.float64)


def lower_bounds(a: Part, b: Part) -> Tensor:
    """Lower bounds (n, m) of scaled squared distances between n and m images."""
    found = product(a.x, b.x)
    return torch.sub(b.low, found, alpha=2, out=found).add_(a.low[:, None])


def squared_distances(a: Tensor, rows: Tensor, b: Tensor, columns: Tensor) -> Tensor:
    """d² (P,) in float64 of the features a[rows] (P, d) and b[columns]."""
    found = torch.empty(len(rows), dtype=torch.float64, device=a.device)
    for first in range(0, len(rows), PAIRS):
        i, j = rows[first : first + PAIRS], columns[first : first + PAIRS]
        count = len(i)
        if count < PAIRS:  # the order of a sum may depend on the number of sums
            i, j = (torch.cat([x, x[:1].expand(PAIRS - count)]) for x in (i, j))
        difference = a[i].double().sub_(b[j].double())
        found[first : first + count] = difference.square_().sum(1)[:count]
    return found


@contextmanager
def as_written(device: torch.device) -> Iterator[None]:
    """float32 means float32 here: no TF32, no bfloat16, no gradient, whatever was chosen."""
    mkldnn: Any = torch.backends.mkldnn
    units = (torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv)
    chosen = [unit.fp32_precision for unit in units]
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            for unit in units:
                unit.fp32_precision = "ieee"
            yield
        finally:
            for unit, precision in zip(units, chosen, strict=True):
                unit.fp32_precision = precision


# On CPUs as a convolution of one pixel: oneDNN uses the widest registers of every processor, the
# library behind matrix products half of them on some. A factor of 2.
def product(x: Tensor, y: Tensor) -> Tensor:
    """x yᵀ (n, m)."""
    n, d = x.shape
    if x.device.type != "cpu" or x.dtype != torch.float32 or n < FACTOR * FACTOR:
        return F.linear(x, y)
    if n % FACTOR:
        x = F.pad(x, (0, 0, 0, -n % FACTOR))
    pixels = x.view(FACTOR, 1, -1, d).movedim(-1, 1)
    return F.conv2d(pixels, y.view(*y.shape, 1, 1)).movedim(1, -1).reshape(len(x), -1)[:n]


def _mean(features: Tensor) -> Tensor:
    total = sum(piece.sum(0, dtype=torch.float64) for piece in features.split(PIECE))
    return torch.as_tensor(total) / len(features)


def _largest(values: Tensor) -> float:
    return values.abs().max().item()


def _power(reach: float) -> float:
    """A power of 2 that brings ``reach`` between ½ and 1; within what float64 can square."""
    return math.ldexp(1.0, -min(500, max(-500, math.frexp(reach)[1])))


def _gamma(terms: int, dtype: torch.dtype) -> float:
    unit = terms * torch.finfo(dtype).eps / 2
    return unit / (1 - unit)
