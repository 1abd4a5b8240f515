"""How well the weight is estimated: by draws of the noise-level ELBO, by labels at hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mclr.likelihood import draw_levels, noise_level_log_likelihood
from mclr.objectives.weights import class_posterior_weights
from mclr.theory.lab.mixtures import Array, Level, World, line, ring
from mclr.theory.lab.statement import Statement

DRAWS = (1, 2, 4, 8, 16, 32, 64)
LABELS = (1, 2, 4, 8, 16, 32, 64)
SIGMA, SIGMA_DATA = 0.4, 1.3
POINTS, REPEATS = 200, 24


@dataclass(frozen=True, eq=False)
class Quality:
    """Of an estimate of posteriors, by effort (M,): std. deviation, |bias| and mean TV error."""

    effort: Array
    spread: Array
    bias: Array
    error: Array


def elbo_log_likelihoods(world: World, x_t: Array, sigma: float, M: int, seed: int) -> Array:
    """log p_t(x_t|c) up to a constant from M draws shared by all classes: (N, C)."""
    y = torch.from_numpy(x_t)
    draw = draw_levels(y, M, torch.Generator().manual_seed(seed))
    sigmas = torch.full((len(y),), sigma, dtype=torch.float64)

    def denoise(noisy: Tensor, level: Tensor, labels: Tensor) -> Tensor:
        part = world.classes[int(labels[0])]
        return torch.from_numpy(part.denoise(noisy.numpy(), level.numpy()))

    columns = []
    for c in range(len(world.classes)):
        labels = torch.full((len(y),), c)
        columns.append(noise_level_log_likelihood(denoise, y, sigmas, labels, draw, SIGMA_DATA))
    return torch.stack(columns, dim=1).numpy()


def log_ratio_bias(M: int = 16, repeats: int = 400) -> float:
    """Largest |mean error| of the noise-level log p_t(x_t|c)/p_t(x_t|c̃) in standard errors."""
    world, x_t = line(), np.array([[-1.5], [-0.5], [0.3], [1.2], [2.4]])
    exact = world.log_likelihoods(x_t, Level(SIGMA))
    found = np.stack([elbo_log_likelihoods(world, x_t, SIGMA, M, seed) for seed in range(repeats)])
    error = (found[..., 1:] - found[..., :1]) - (exact[..., 1:] - exact[..., :1])
    standard_error = error.std(0, ddof=1) / np.sqrt(repeats)
    return float((np.abs(error.mean(0)) / standard_error).max())


def _quality(effort: tuple[int, ...], found: list[Array], exact: Array) -> Quality:
    """``found``: posteriors (repeats, N, C) by effort; ``exact`` (N, C)."""
    return Quality(
        np.array(effort, float),
        np.array([np.sqrt(p.var(0).mean()) for p in found]),
        np.array([np.abs(p.mean(0) - exact).mean() for p in found]),
        np.array([np.abs(p - exact).sum(-1).mean() / 2 for p in found]),
    )


def posterior(log_likelihoods: Array, priors: Array) -> Array:
    """Priors times the ratios of ``class_posterior_weights``, (N, C)."""
    values = torch.from_numpy(log_likelihoods)
    weights = torch.from_numpy(np.broadcast_to(priors, log_likelihoods.shape).copy())
    return np.asarray(weights * class_posterior_weights(values, weights, 1e300))


def by_draws() -> Quality:
    """All labels at hand, log-likelihoods from M draws."""
    world, rng = line(), np.random.default_rng(6)
    x_t = world.marginal.at(Level(SIGMA)).sample(POINTS, rng)
    exact = posterior(world.log_likelihoods(x_t, Level(SIGMA)), world.priors)
    found = []
    for M in DRAWS:
        runs = [elbo_log_likelihoods(world, x_t, SIGMA, M, seed) for seed in range(REPEATS)]
        found.append(np.stack([posterior(values, world.priors) for values in runs]))
    return _quality(DRAWS, found, exact)


def by_labels() -> Quality:
    """Exact log-likelihoods of the own label and of K partners of other classes."""
    world, rng = ring(), np.random.default_rng(7)
    C = len(world.classes)
    own = rng.integers(C, size=POINTS)
    x_t = np.stack([world.classes[c].at(Level(SIGMA)).sample(1, rng)[0] for c in own])
    values = world.log_likelihoods(x_t, Level(SIGMA))
    exact = posterior(values, world.priors)
    found = []
    for K in LABELS:
        runs = [_with_partners(values, own, K, rng) for _ in range(REPEATS)]
        found.append(np.stack(runs))
    return _quality(LABELS, found, exact)


def _with_partners(
    values: Array, own: NDArray[np.int64], K: int, rng: np.random.Generator
) -> Array:
    """Posteriors (N, C) known from K partners: label c stands for 1/C, each partner for its part.

    values: log-likelihoods (N, C); own: labels (N,). A label met twice adds up.
    """
    N, C = values.shape
    others = (own[:, None] + rng.integers(1, C, size=(N, K))) % C
    candidates = np.concatenate([own[:, None], others], axis=1)
    priors = np.full((N, 1 + K), (1 - 1 / C) / K)
    priors[:, 0] = 1 / C
    shares = posterior(np.take_along_axis(values, candidates, 1), priors)
    table = np.zeros((N, C))
    np.add.at(table, (np.arange(N)[:, None], candidates), shares)
    return table


def statements(draws: Quality, labels: Quality) -> list[Statement]:
    """Measured: no bias of the log-ratio, and what draws and labels buy."""
    state = partial(Statement, title="Practical weight", equations="(6), (23)", figure="weighted")
    return [
        state(
            id="weighted-noise-elbo",
            claim="The ELBO of x_t from noise levels above t estimates log p_t(x_t|c)/p_t(x_t|c̃) "
            "without bias: largest mean error in standard errors, 10 ratios, 400 repeats",
            world=f"{line().name}; σ = {SIGMA}",
            deviation=log_ratio_bias(),
            tolerance=4.0,
            reason="4 standard errors",
            figure=None,
        ),
        state(
            id="weighted-draws",
            claim="Posteriors from the noise-level ELBO sharpen with draws: standard deviation "
            f"{draws.spread[0]:.3f} with 1 draw, {draws.spread[-1]:.3f} with {DRAWS[-1]} (mean TV "
            f"error {draws.error[0]:.3f} and {draws.error[-1]:.3f}); ratio",
            world=f"{line().name}; σ = {SIGMA}",
            deviation=float(draws.spread[-1] / draws.spread[0]),
            tolerance=0.5,
            reason="measured: 1/√M would give 0.125, saturated weights move less",
        ),
        state(
            id="weighted-labels",
            claim="Exact log-likelihoods of few labels: standard deviation of the posteriors "
            f"{labels.spread[0]:.3f} with 1 partner, {labels.spread[-1]:.3f} with {LABELS[-1]} "
            f"(|bias| {labels.bias[0]:.3f} and {labels.bias[-1]:.3f}); ratio",
            world=f"{ring().name}; σ = {SIGMA}",
            deviation=float(labels.spread[-1] / labels.spread[0]),
            tolerance=0.5,
            reason="measured: 1/√K would give 0.125",
        ),
    ]
