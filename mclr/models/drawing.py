"""Images of seeds and labels, by any family; what is not finite is no image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.models.family import Family
from mclr.models.finite import NOT_FINITE, note_finite, noted

SHOWN = 5
"""Ranges of seeds that a message names."""


@dataclass(frozen=True)
class Unchecked:
    """Images of some seeds, or what becomes images, before it is asked whether they are finite.

    notes: of each stage, on parts (n,) of the rows or on all.
    """

    x: Tensor
    seeds: Sequence[int]
    notes: list[list[Tensor]]

    def checked(self, model: Path) -> Tensor:
        """``x``; waits for the device that computes it.

        Raises:
            UserError: some rows are not finite; names their seeds and the model.
        """
        n = len(self.seeds)
        finite = torch.ones(n, dtype=torch.bool)
        for stage in self.notes:
            rows = torch.cat([finite[:0], *(part.cpu() for part in stage)])
            finite &= rows if len(rows) == n else rows.all()
        if finite.all():
            return self.x
        bad = [seed for seed, good in zip(self.seeds, finite.tolist(), strict=True) if not good]
        raise UserError(f"{model}: images of seeds {in_words(bad)} are {NOT_FINITE}")


def in_words(seeds: Sequence[int]) -> str:
    """Seeds as ranges, ``0–3, 7``; of more than a few ranges, how many seeds are left out."""
    ordered = sorted(set(seeds))
    breaks = [i for i, (a, b) in enumerate(pairwise(ordered), 1) if b > a + 1]
    parts = [ordered[a:b] for a, b in pairwise([0, *breaks, len(ordered)])]
    shown = ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts[:SHOWN])
    left = sum(map(len, parts[SHOWN:]))
    return shown + (f" and {left} more" if left else "")


def draw_samples(
    family: Family,
    net: nn.Module,
    seeds: Sequence[int],
    labels: Tensor,
    guidance: float,
    **how: Any,
) -> Unchecked:
    """What the network models, one for each seed and label; arguments of ``Family.generate``."""
    with noted() as notes:
        x = family.generate(net, seeds, labels, guidance, **how)
        if x.is_floating_point():
            note_finite(x)
    return Unchecked(x, seeds, [notes])


def draw_images(
    family: Family,
    net: nn.Module,
    seeds: Sequence[int],
    labels: Tensor,
    guidance: float,
    **how: Any,
) -> Unchecked:
    """The same, decoded: uint8 images (N, C, H, W)."""
    drawn = draw_samples(family, net, seeds, labels, guidance, **how)
    with noted() as notes:
        images = family.decode(drawn.x)
    return Unchecked(images, seeds, [*drawn.notes, notes] if notes else drawn.notes)
