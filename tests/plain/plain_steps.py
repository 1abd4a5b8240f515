"""Losses, guidance and metrics as the paper writes them, for all rows of a batch at once.

N K explicit tuples: each sample is evaluated once for every tuple it is in, by the policy and by
the reference; guidance takes one pass with the class and one without.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from mclr.likelihood import Draw
from mclr.models.edm2.sampler import time_steps
from mclr.objectives.loss import Batch

Ell = Callable[[Tensor, Tensor, Draw], Tensor]
Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (N, C, H, W), σ (N,), one-hot labels (N, classes)) -> D."""


def weight(sigma: Tensor, s_d: float) -> Tensor:
    return (sigma**2 + s_d**2) / (sigma * s_d) ** 2


def denoising_ell(net: nn.Module, classes: int, s_d: float) -> Ell:
    """−w(σ) ‖D(x + σε; σ, c) − x‖²."""

    def ell(x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        assert draw.sigma is not None and draw.epsilon is not None
        one_hot = nn.functional.one_hot(labels, classes + 1)[:, :classes].to(x)
        error = net(x + draw.sigma.view(-1, 1, 1, 1) * draw.epsilon, draw.sigma, one_hot) - x
        return -weight(draw.sigma, s_d) * (error**2).sum((1, 2, 3))

    return ell


def dsm(net: nn.Module, batch: Batch, classes: int, s_d: float) -> Tensor:
    """EDM2's training loss."""
    draw = batch.draw
    assert draw.sigma is not None and draw.epsilon is not None
    one_hot = nn.functional.one_hot(batch.labels, classes + 1)[:, :classes].to(batch.x)
    noisy = batch.x + draw.sigma.view(-1, 1, 1, 1) * draw.epsilon
    u = net.log_variance(draw.sigma)  # type: ignore[operator]
    w = weight(draw.sigma, s_d).view(-1, 1, 1, 1)
    loss: Tensor = w / u.exp() * (net(noisy, draw.sigma, one_hot) - batch.x) ** 2 + u
    return loss.sum() / len(batch.x)


def mclr(ell: Ell, batch: Batch, partners: Tensor) -> Tensor:
    """Algorithm 1: 2 N K rows. partners (N, K)."""
    N, K = partners.shape
    i, j = torch.arange(N).repeat_interleave(K), partners.flatten()
    draw = batch.draw.take(i)
    own = ell(batch.x[i], batch.labels[i], draw)
    return -(own - ell(batch.x[i], batch.labels[j], draw)).mean()


def rewards(ell: Ell, ell_ref: Ell, batch: Batch, partners: Tensor) -> tuple[Tensor, Tensor]:
    """log p_θ/p_ref of the preferred and of the other sample of all N K tuples."""
    N, K = partners.shape
    i, j = torch.arange(N).repeat_interleave(K), partners.flatten()
    labels, draw = batch.labels[i], batch.draw.take(i)
    with torch.no_grad():
        ref_w, ref_l = ell_ref(batch.x[i], labels, draw), ell_ref(batch.x[j], labels, draw)
    return ell(batch.x[i], labels, draw) - ref_w, ell(batch.x[j], labels, draw) - ref_l


def ccdpo(ell: Ell, ell_ref: Ell, batch: Batch, partners: Tensor, beta: float) -> Tensor:
    r_w, r_l = rewards(ell, ell_ref, batch, partners)
    return -torch.sigmoid(beta * (r_w - r_l)).log().mean()


def cca(ell: Ell, ell_ref: Ell, batch: Batch, partners: Tensor, beta: float, lam: float) -> Tensor:
    r_w, r_l = rewards(ell, ell_ref, batch, partners)
    return -(torch.sigmoid(beta * r_w).log() + lam * torch.sigmoid(-beta * r_l).log()).mean()


def ddo(
    ell: Ell, ell_ref: Ell, batch: Batch, negatives: Batch, beta: float, alpha: float
) -> Tensor:
    def ratio(b: Batch) -> Tensor:
        with torch.no_grad():
            reference = ell_ref(b.x, b.labels, b.draw)
        return beta * (ell(b.x, b.labels, b.draw) - reference)

    real, made = torch.sigmoid(ratio(batch)).log(), torch.sigmoid(-ratio(negatives)).log()
    return -real.mean() - alpha * made.mean()


@torch.no_grad()
def heun(net: Denoise, noise: Tensor, labels: Tensor, guidance: float, **schedule: float) -> Tensor:
    """Deterministic Heun sampling (Karras et al. 2022, Algorithm 1); labels one-hot."""
    t = time_steps(int(schedule.pop("num_steps")), **schedule)
    rows = noise.new_ones(len(noise))

    def slope(x: Tensor, level: Tensor) -> Tensor:
        d = net(x, level * rows, labels)
        if guidance:
            d = d + guidance * (d - net(x, level * rows, torch.zeros_like(labels)))
        return (x - d) / level

    x = noise * t[0]
    for now, following in pairwise(t):
        d_now = slope(x, now)
        euler = x + (following - now) * d_now
        if following == 0:
            return euler
        x = x + (following - now) * (d_now + slope(euler, following)) / 2
    return x


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def precision_recall(a: Tensor, b: Tensor, k: int) -> tuple[float, float]:
    """Shares of a inside b's manifold, and of b inside a's."""

    def inside(x: Tensor, y: Tensor) -> float:
        radius = torch.cdist(y, y).sort(dim=1).values[:, k]
        return (torch.cdist(x, y) <= radius).any(dim=1).double().mean().item()

    return inside(a, b), inside(b, a)


def inception_score(logits: Tensor, splits: int) -> float:
    """In the order given; torch-fidelity shuffles first."""
    scores = []
    for part in logits.chunk(splits):
        p = part.softmax(1)
        scores.append((p * (p.log() - p.mean(0).log())).sum(1).mean().exp().item())
    return float(np.mean(scores))
