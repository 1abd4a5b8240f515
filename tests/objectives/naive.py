"""Algorithms 1 and 2 of the paper written out: a loop over explicit tuples, one row at a time.

Two toy families in float64, each with its log-likelihood as the library computes it and as a
loop: a denoiser with w(σ) and ‖·‖² spelled out, and a token model with its log-softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mclr.likelihood import Draw, denoising_log_likelihood, token_log_likelihood
from mclr.objectives.base import Batch, LogLikelihood

CLASSES, SIGMA_DATA = 5, 0.5

OneRow = Callable[[Tensor, int, Draw, int], Tensor]
"""(x (…), class, draw of the batch, row of the draw) -> scalar ℓ."""


class ToyDenoiser(nn.Module):
    """D(y; σ, c): a bent linear map of y, σ and a class vector; (N, 1, 2, 2) in and out."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w, self.c, self.s = (
            nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64) / 2)
            for shape in ((4, 4), (CLASSES, 4), (4,))
        )

    def forward(self, y: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        hidden = y.flatten(1) @ self.w + self.c[labels] + sigma.log()[:, None] * self.s
        return torch.tanh(hidden).view_as(y)


class ToyTokens(nn.Module):
    """Logits (N, 3, 4) of three tokens: each from the class and the token before."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.c, self.before = (
            nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
            for shape in ((CLASSES, 3, 4), (5, 4))
        )

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        before = nn.functional.pad(tokens[:, :-1] + 1, (1, 0))
        return self.c[labels] + self.before[before]


@dataclass(frozen=True)
class Toy:
    """A policy and a reference network of one family, and both forms of ℓ."""

    policy: nn.Module
    reference: nn.Module
    diffusion: bool

    def library(self, net: nn.Module) -> LogLikelihood:
        if self.diffusion:
            return lambda x, c, draw: denoising_log_likelihood(net, x, c, draw, SIGMA_DATA)
        return lambda x, c, draw: token_log_likelihood(net(x, c), x)

    def one_row(self, net: nn.Module) -> OneRow:
        return self._denoising(net) if self.diffusion else self._tokens(net)

    @staticmethod
    def _denoising(net: nn.Module) -> OneRow:
        def value(x: Tensor, c: int, draw: Draw, row: int) -> Tensor:
            assert draw.sigma is not None and draw.epsilon is not None
            sigma, epsilon = draw.sigma[row], draw.epsilon[row]
            w = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
            denoised = net((x + sigma * epsilon)[None], sigma[None], torch.tensor([c]))[0]
            log_likelihood: Tensor = -w * ((denoised - x) ** 2).sum()
            return log_likelihood

        return value

    @staticmethod
    def _tokens(net: nn.Module) -> OneRow:
        def value(x: Tensor, c: int, draw: Draw, row: int) -> Tensor:
            logits = net(x[None], torch.tensor([c]))[0]
            terms = [logits[i, x[i]] - logits[i].exp().sum().log() for i in range(len(x))]
            return torch.stack(terms).sum()

        return value

    def batch(self, labels: list[int], seed: int = 0) -> Batch:
        generator, n = torch.Generator().manual_seed(seed), len(labels)
        if not self.diffusion:
            x = torch.randint(4, (n, 3), generator=generator)
            return Batch(x, torch.tensor(labels), Draw())
        x, epsilon = torch.randn(2, n, 1, 2, 2, generator=generator, dtype=torch.float64)
        sigma = torch.randn(n, generator=generator, dtype=torch.float64).exp()
        return Batch(x, torch.tensor(labels), Draw(sigma, epsilon))


def toy(family: str, *, same: bool = False) -> Toy:
    kind = ToyDenoiser if family == "diffusion" else ToyTokens
    reference = kind(1 if same else 2).requires_grad_(False)
    return Toy(kind(1), reference, family == "diffusion")


def tuples(labels: Tensor, partners: Tensor) -> Iterator[tuple[int, int]]:
    """(i, j) for every sample i and each partner j of another class."""
    for i, row in enumerate(partners.tolist()):
        for j in row:
            if labels[i] != labels[j]:
                yield i, j


# Algorithm 1, lines 17–20 (the mean over tuples where the paper has the sum), and Eq. (160).
def algorithm_1(ell: OneRow, batch: Batch, partners: Tensor, dsm: float) -> Tensor:
    terms = []
    for i, j in tuples(batch.labels, partners):
        c, other = int(batch.labels[i]), int(batch.labels[j])
        x = batch.x[i]
        terms.append(-(ell(x, c, batch.draw, i) - ell(x, other, batch.draw, i)))
    n = len(batch.labels)
    own = [ell(batch.x[i], int(batch.labels[i]), batch.draw, i) for i in range(n)]
    return torch.stack(terms).mean() - dsm * torch.stack(own).mean()


# Algorithm 2, lines 17–27; Δ of the paper is −w⁻¹ times the log-ratio r.
def algorithm_2(
    ell: OneRow,
    ell_ref: OneRow,
    batch: Batch,
    partners: Tensor,
    beta: float,
    lam: float | None,
) -> Tensor:
    """CC-DPO, or with ``lam`` CCA."""
    terms = []
    for i, j in tuples(batch.labels, partners):
        c = int(batch.labels[i])
        r_w = ell(batch.x[i], c, batch.draw, i) - ell_ref(batch.x[i], c, batch.draw, i)
        r_l = ell(batch.x[j], c, batch.draw, i) - ell_ref(batch.x[j], c, batch.draw, i)
        if lam is None:
            terms.append(-log_sigmoid(beta * (r_w - r_l)))
        else:
            terms.append(-log_sigmoid(beta * r_w) - lam * log_sigmoid(-beta * r_l))
    return torch.stack(terms).mean()


def ddo(
    ell: OneRow, ell_ref: OneRow, batch: Batch, negatives: Batch, beta: float, alpha: float
) -> Tensor:
    """−E_data log σ(βr) − α E_ref log(1 − σ(βr)), with the negative written as it stands."""

    def ratios(source: Batch) -> list[Tensor]:
        return [
            ell(source.x[i], int(c), source.draw, i) - ell_ref(source.x[i], int(c), source.draw, i)
            for i, c in enumerate(source.labels)
        ]

    real = torch.stack([-log_sigmoid(beta * r) for r in ratios(batch)]).mean()
    made = torch.stack([-(1 - torch.sigmoid(beta * r)).log() for r in ratios(negatives)]).mean()
    return real + alpha * made


def log_sigmoid(value: Tensor) -> Tensor:
    return -(1 + (-value).exp()).log()


LOG2 = math.log(2)
