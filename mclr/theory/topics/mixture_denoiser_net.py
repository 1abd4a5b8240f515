"""World (c): a small denoiser of 2-D points, its losses and its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from mclr.likelihood import draw_levels, noise_level_log_likelihood, noise_weight
from mclr.objectives.weights import class_posterior_weights
from mclr.theory.lab.mixtures import Level, World

SIGMA_DATA, P_MEAN, P_STD = 0.7, -1.0, 1.0
WIDTH, BATCH, ETA, CLIP = 64, 512, 1.0, 1e3


class Denoiser(nn.Module):
    """D(y; σ, c) with EDM's preconditioning around an MLP; y (N, 2), σ (N,), labels (N,)."""

    def __init__(self, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.classes = classes
        sizes = (2 + 2 + classes, WIDTH, WIDTH, WIDTH, 2)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layer = nn.Linear(fan_in, fan_out)
            nn.init.normal_(layer.weight, std=fan_in**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    # Karras et al. 2022 (arXiv 2206.00364), Eq. 7
    def forward(self, y: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Denoised points (N, 2)."""
        sigma = sigma[:, None]
        size = (sigma**2 + SIGMA_DATA**2).sqrt()
        level = sigma.log() / 4
        one_hot = nn.functional.one_hot(labels, self.classes).to(y.dtype)
        out: Tensor = self.layers(torch.cat([y / size, level, level**2, one_hot], dim=1))
        return SIGMA_DATA**2 / size**2 * y + sigma * SIGMA_DATA / size * out


@dataclass(frozen=True)
class Points:
    """A minibatch of the world: x and y = x + σε (N, 2), σ (N,), labels c and others c̃ ≠ c (N,)."""

    x: Tensor
    y: Tensor
    sigma: Tensor
    labels: Tensor
    others: Tensor


def draw_points(world: World, n: int, rng: np.random.Generator) -> Points:
    """n samples of p(c) p(x|c) p(σ) p(ε), with partners drawn evenly: for equal priors."""
    classes = len(world.classes)
    labels = np.sort(rng.choice(classes, size=n, p=world.priors))
    counts = np.bincount(labels, minlength=classes)
    x = np.concatenate([p.sample(m, rng) for p, m in zip(world.classes, counts, strict=True)])
    sigma = np.exp(P_MEAN + P_STD * rng.standard_normal(n))
    y = x + sigma[:, None] * rng.standard_normal(x.shape)
    others = (labels + rng.integers(1, classes, size=n)) % classes
    clean, noisy, level = (torch.from_numpy(a.astype(np.float32)) for a in (x, y, sigma))
    return Points(clean, noisy, level, torch.from_numpy(labels), torch.from_numpy(others))


Ratio = Callable[[World, Points], Tensor]
"""Weight of each sample's pair (x, c̃): (N,)."""


def exact_ratio(world: World, batch: Points) -> Tensor:
    """p_t(x_t|c̃) / p_t(x_t) of each sample's partner: (N,)."""
    level = Level(batch.sigma.numpy().astype(np.float64))
    values = torch.from_numpy(world.log_likelihoods(batch.y.numpy().astype(np.float64), level))
    ratios = class_posterior_weights(values, torch.from_numpy(world.priors), CLIP)
    return ratios.gather(1, batch.others[:, None])[:, 0].float()


def no_ratio(world: World, batch: Points) -> Tensor:
    """1 for each sample: MCLR without weight."""
    return torch.ones_like(batch.sigma)


@dataclass(frozen=True)
class EstimatedRatio:
    """The same ratio from a trained network's own ELBO at the noise level, with M draws.

    Ratios below ``floor`` count as 0.
    """

    reference: Denoiser
    M: int
    floor: float
    generator: torch.Generator

    def __call__(self, world: World, batch: Points) -> Tensor:
        draw = draw_levels(batch.y, self.M, self.generator)
        at = batch.y, batch.sigma
        values = [
            noise_level_log_likelihood(
                self.reference, *at, torch.full_like(batch.labels, c), draw, SIGMA_DATA
            )
            for c in range(len(world.classes))
        ]
        priors = torch.from_numpy(world.priors)
        ratios = class_posterior_weights(torch.stack(values, dim=1), priors, CLIP, self.floor)
        return ratios.gather(1, batch.others[:, None])[:, 0]


# ℓ(x, c) = −w(σ) ‖x − D(x_t; σ, c)‖² of Eq. (22)
def log_likelihood(net: Denoiser, batch: Points, labels: Tensor) -> Tensor:
    """One-draw surrogate (N,)."""
    denoised: Tensor = net(batch.y, batch.sigma, labels)
    error = (denoised - batch.x).square().sum(1)
    return -noise_weight(batch.sigma, SIGMA_DATA) * error


Loss = Callable[[Denoiser, World, Points], Tensor]


def dsm(net: Denoiser, world: World, batch: Points) -> Tensor:
    """Denoising score matching, Eq. (4)."""
    return -log_likelihood(net, batch, batch.labels).mean()


def contrast(net: Denoiser, world: World, batch: Points, *, anchor: float, ratio: Ratio) -> Tensor:
    """anchor · DSM + η · MCLR with one partner of another class and a weight on each pair.

    Partners leave out c̃ = c, hence the factor 1 − p(c).
    """
    own, other = (log_likelihood(net, batch, c) for c in (batch.labels, batch.others))
    left = 1 - torch.from_numpy(world.priors).float()[batch.labels]
    return -(anchor * own + ETA * left * ratio(world, batch) * (own - other)).mean()


def train(
    net: Denoiser,
    loss: Loss,
    world: World,
    steps: int,
    rate: float,
    seed: int,
    probe: Callable[[int], None] = lambda step: None,
) -> None:
    """Adam with a cosine schedule, in place; ``probe`` is told each number of steps done."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        loss(net, world, draw_points(world, BATCH, rng)).backward()
        optimiser.step()
        schedule.step()
        probe(step)


def copy_of(net: Denoiser) -> Denoiser:
    """A network of its own with the same weights."""
    twin = Denoiser(net.classes, torch.Generator())
    twin.load_state_dict(net.state_dict())
    return twin
