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
from mclr.likelihood.prediction import Denoised, Logits
from mclr.objectives.loss import Batch, LogLikelihood, Predict, Predictions

CLASSES, SIGMA_DATA = 5, 0.5
NULL = CLASSES - 1
"""The class that stands for none."""
RAMP = (0.25, 0.5, 1.0)
"""How far each token is guided."""

OneRow = Callable[[Tensor, int, Draw, int], Tensor]
"""(x (…), class, draw of the batch, row of the draw) -> scalar ℓ."""

OneSaid = Callable[[Tensor, int, Draw, int], Tensor]
"""The same arguments -> a denoised image (…), or logits (L, V)."""


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

    def predictions(self) -> Predictions:
        policy, reference = self.predict(self.policy), self.predict(self.reference)
        return Predictions(policy, policy, reference, NULL)

    def predict(self, net: nn.Module) -> Predict:
        if not self.diffusion:
            ramp = torch.tensor(RAMP, dtype=torch.float64)[:, None]
            return lambda x, c, draw: Logits(net(x, c), ramp)

        def denoise(x: Tensor, c: Tensor, draw: Draw) -> Denoised:
            assert draw.sigma is not None and draw.epsilon is not None
            noisy = x + draw.sigma.view(-1, 1, 1, 1) * draw.epsilon
            return Denoised(net(noisy, draw.sigma, c), draw.sigma, SIGMA_DATA)

        return denoise

    def one_said(self, net: nn.Module) -> OneSaid:
        def value(x: Tensor, c: int, draw: Draw, row: int) -> Tensor:
            if not self.diffusion:
                logits: Tensor = net(x[None], torch.tensor([c]))[0]
                return logits
            assert draw.sigma is not None and draw.epsilon is not None
            sigma, epsilon = draw.sigma[row], draw.epsilon[row]
            denoised: Tensor = net((x + sigma * epsilon)[None], sigma[None], torch.tensor([c]))[0]
            return denoised

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


# ------------------------------------------------------------------ imitations of guidance


def misfit(said: Tensor, x: Tensor, draw: Draw, row: int, sigma_data: float) -> Tensor:
    """w(σ) ‖D − x‖² of a denoised image, −Σ log p(x_l) of logits (L, V)."""
    if draw.sigma is None:
        return -sum((said[i, x[i]] - said[i].exp().sum().log() for i in range(len(x))), 0 * x[0])
    return weight(draw.sigma[row], sigma_data) * ((said - x) ** 2).sum()


def gap(said: Tensor, teacher: Tensor, draw: Draw, row: int, sigma_data: float) -> Tensor:
    """w(σ) ‖D − D'‖² of denoised images, Σ_l KL(teacher ‖ said) of logits (L, V)."""
    if draw.sigma is None:
        p, q = (v.exp() / v.exp().sum(1, keepdim=True) for v in (teacher, said))
        return (p * (p / q).log()).sum()
    return weight(draw.sigma[row], sigma_data) * ((said - teacher) ** 2).sum()


def weight(sigma: Tensor, sigma_data: float) -> Tensor:
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def distillation(
    says: OneSaid, base: OneSaid, batch: Batch, null: int, gamma: float, ramp: Tensor, data: float
) -> Tensor:
    terms = []
    for i, (x, c) in enumerate(zip(batch.x, batch.labels.tolist(), strict=True)):
        with torch.no_grad():
            own, without = base(x, c, batch.draw, i), base(x, null, batch.draw, i)
        teacher = (1 + gamma * ramp) * own - gamma * ramp * without
        terms.append(gap(says(x, c, batch.draw, i), teacher, batch.draw, i, data))
    return torch.stack(terms).mean()


def guidance_free(
    says: OneSaid, batch: Batch, null: int, beta: float, ramp: Tensor, data: float
) -> Tensor:
    """GFT; β of an entry is 1/(1 + ramp (1/β − 1))."""
    share, terms = beta / (beta + ramp * (1 - beta)), []
    for i, (x, c) in enumerate(zip(batch.x, batch.labels.tolist(), strict=True)):
        without = says(x, null, batch.draw, i).detach()
        mixed = share * says(x, c, batch.draw, i) + (1 - share) * without
        terms.append(misfit(mixed, x, batch.draw, i, data))
    return torch.stack(terms).mean()


def model_guidance(
    says: OneSaid, batch: Batch, null: int, w: float, ramp: Tensor, data: float
) -> Tensor:
    """MG; w of an entry is ramp w / (1 − w + ramp w)."""
    share, terms = ramp * w / (1 - w + ramp * w), []
    for i, (x, c) in enumerate(zip(batch.x, batch.labels.tolist(), strict=True)):
        own, without = says(x, c, batch.draw, i), says(x, null, batch.draw, i)
        moved = own - share * (own - without).detach()
        terms.append(misfit(moved, x, batch.draw, i, data))
    return torch.stack(terms).mean()


def log_sigmoid(value: Tensor) -> Tensor:
    return -(1 + (-value).exp()).log()


LOG2 = math.log(2)
