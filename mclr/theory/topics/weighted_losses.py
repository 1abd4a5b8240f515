"""The weighted objective with partners of other classes, its ratios and its minimisers.

Theorem 3's regulariser E_c̃ [‖e_c‖² − r_c̃ ‖e_c̃‖²], with e_c the error under label c, equals
E_c̃ r_c̃ [‖e_c‖² − ‖e_c̃‖²], because the ratios r_c̃ = p_t(x_t|c̃)/p_t(x_t) average to 1 over c̃. In this
form the pair c̃ = c vanishes, so partners from other classes suffice, at (1 − p(c)) times the mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mclr.objectives.weights import class_posterior_weights
from mclr.theory.lab.mixtures import Array, Level, World
from mclr.theory.lab.score_matching import (
    Grid,
    Objective,
    relative_error,
    squared_error,
    stationary,
)
from mclr.theory.topics import theorem3

LEVELS = (Level(0.3), Level(0.8), Level(2.0))
ETA, SIGMA_DATA, NO_CLIP = 1.0, 0.5, 1e300

PairWeight = Callable[[Grid, World, Level], Tensor]
"""Weight of each label for each (x, x_t): (C, X or 1, Y)."""


def at_noise_level(grid: Grid, world: World, level: Level) -> Tensor:
    """Theorem 3's: p_t(x_t|c̃) / p_t(x_t), from log-likelihoods of x_t."""
    return class_ratios(world, world.log_likelihoods(grid.y, level)).T[:, None]


def of_clean_sample(grid: Grid, world: World, level: Level) -> Tensor:
    """p(x|c̃) / p(x), from log-likelihoods of the clean x: the wrong one."""
    table = class_ratios(world, world.log_likelihoods(grid.x, Level(0.0)))
    return table.T[:, :, None].expand(-1, -1, len(grid.y))


# ℓ(x, c̃) = −w(σ) ‖x − D(x_t; σ, c̃)‖² of the training step itself, EDM2's w(σ)
def of_training_draw(grid: Grid, world: World, level: Level) -> Tensor:
    """The ratio that costs nothing: from the one-draw surrogate that the loss contains anyway."""
    sigma = float(level.sigma)
    w = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    errors = [
        ((grid.x[:, None] - part.denoise(grid.y, sigma)) ** 2).sum(-1) for part in world.classes
    ]
    values = -w * np.stack(errors, axis=-1)
    table = class_ratios(world, values.reshape(-1, len(world.classes)))
    return table.view(len(grid.x), len(grid.y), -1).permute(2, 0, 1)


def class_ratios(world: World, log_likelihoods: Array) -> Tensor:
    """p(·|c)/p(·) from exact log-likelihoods (N, C): (N, C)."""
    priors = torch.from_numpy(world.priors)
    return class_posterior_weights(torch.from_numpy(log_likelihoods), priors, NO_CLIP)


def weighted_loss(
    grid: Grid,
    world: World,
    level: Level,
    eta: float,
    weight: PairWeight,
    *,
    difference: bool = True,
) -> Objective:
    """DSM + η · regulariser over tables (C, Y, d), with partners c̃ ≠ c ~ p(c̃) / (1 − p(c)).

    difference: E_c̃ (1 − p(c)) r_c̃ [‖e_c‖² − ‖e_c̃‖²]; else E_c̃ [‖e_c‖² − r_c̃ ‖e_c̃‖²], Eq. (23) with
    other classes put in.
    """
    target, p_0t, r = grid.target(level), grid.transition(level), weight(grid, world, level)

    def value(table: Tensor) -> Tensor:
        errors = [squared_error(target, field) for field in table]
        total = table.new_zeros(())
        for c, p_c in enumerate(world.priors):
            loss = errors[c]
            for k, p_k in enumerate(world.priors):
                if k == c:
                    continue
                if difference:
                    loss = loss + eta * p_k * r[k] * (errors[c] - errors[k])
                else:
                    loss = loss + eta * p_k / (1 - p_c) * (errors[c] - r[k] * errors[k])
            total = total + p_c * (grid.mass(world.classes[c])[:, None] * p_0t * loss).sum()
        return total

    return value


def minimiser(
    grid: Grid, world: World, level: Level, weight: PairWeight, *, difference: bool = True
) -> Array:
    """Where the loss is least: (C, Y, d); NaN where it has no minimum."""
    shape = (len(world.classes), *grid.y.shape)
    loss = weighted_loss(grid, world, level, ETA, weight, difference=difference)
    found = stationary(loss, shape)
    return np.where(found.curvature > 0, found.table, np.nan)


def distance(
    grid: Grid, world: World, weight: PairWeight, strength: float, *, difference: bool = True
) -> float:
    """Largest relative distance of the minimiser from the CFG score of a strength.

    Infinite where there is no minimum.
    """
    worst = 0.0
    for level in LEVELS:
        found = minimiser(grid, world, level, weight, difference=difference)
        if np.isnan(found).any():
            return float("inf")
        worst = max(worst, relative_error(found, theorem3.claimed(grid, world, level, strength)))
    return worst


def strength_reached(
    grid: Grid, world: World, level: Level, weight: PairWeight, c: int
) -> tuple[float, float]:
    """γ whose CFG score is nearest the minimiser's in mean square under p_t(x_t|c).

    Also the share of p_t(x_t|c) where there is no minimum; it is left out of the mean.
    """
    found = minimiser(grid, world, level, weight)[c]
    exists = ~np.isnan(found)
    plain = theorem3.claimed(grid, world, level, 0.0)[c]
    guidance = theorem3.claimed(grid, world, level, 1.0)[c] - plain
    mass = np.exp(world.classes[c].at(level).log_density(grid.y))[:, None]
    along = (mass * (found - plain) * guidance)[exists].sum() / (mass * guidance**2)[exists].sum()
    return float(along), float(mass[~exists].sum() / mass.sum())
