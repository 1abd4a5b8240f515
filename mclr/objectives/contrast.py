"""Contrastive tuples from a minibatch (paper, Appendix E.2).

For each sample, K other members of the minibatch are drawn with replacement among those with
another label: K = 1 is the paper's Approach 1, K > 1 its Approach 2. The draw is made for the
whole minibatch; a loss may then be computed for a part of its samples at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mclr.device import move


@dataclass(frozen=True)
class Contrast:
    """Partners of N samples: rows ``index`` (N, K), and which samples have a partner (N,)."""

    index: Tensor
    valid: Tensor

    @property
    def K(self) -> int:
        return self.index.shape[1]

    def to(self, device: torch.device) -> Contrast:
        """These partners on ``device``."""
        return Contrast(move(self.index, device), move(self.valid, device))

    def mean(self, values: Tensor, part: Tensor) -> Tensor:
        """Share of samples ``part`` (P,) in the mean over all tuples that exist; 0 if none does.

        values: (P, K). The shares of disjoint parts add up to the mean over the minibatch.
        """
        tuples = self.valid.sum().clamp(min=1) * self.K
        return (values * self.valid[part, None].to(values.dtype)).sum() / tuples


def draw_partners(labels: Tensor, K: int, generator: torch.Generator) -> Contrast:
    """Draw K partners with a different label for each of the N ``labels``, all on the CPU.

    In a minibatch of a single class no sample has a partner: all tuples are invalid.
    """
    different = (labels[:, None] != labels[None, :]).float()
    valid = different.any(dim=1)
    weights = torch.where(valid[:, None], different, torch.ones_like(different))
    return Contrast(torch.multinomial(weights, K, replacement=True, generator=generator), valid)
