"""Theorem 3's objectives spelled out as expectations: Eqs. (23), (24) and (21)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mclr.theory.lab.mixtures import Level, World
from mclr.theory.lab.score_matching import Grid, Objective, squared_error

Weight = Callable[[Grid, World, Level], Tensor]
"""Weight of the negative term at each place under each class: (C, Y)."""


# p_t(y|c̃) / p_t(y) of Eq. (23)
def adaptive(grid: Grid, world: World, level: Level) -> Tensor:
    """The weight of Theorem 3."""
    classes = torch.stack([grid.density(part, level) for part in world.classes])
    return classes / grid.density(world.marginal, level)


def none(grid: Grid, world: World, level: Level) -> Tensor:
    """No weight: Eq. (21)."""
    return torch.ones(len(world.classes), len(grid.y), dtype=torch.float64)


@dataclass(frozen=True)
class Schedule:
    """Noise levels with their p(t) and w(t)."""

    levels: tuple[Level, ...]
    p: tuple[float, ...]
    w: tuple[float, ...]


def schedules(levels: tuple[Level, ...]) -> tuple[Schedule, ...]:
    """Several p(t) and w(t) over the same levels: flat, EDM-like, g² and a random one."""
    n = len(levels)
    rng = np.random.default_rng(3)
    random = rng.dirichlet(np.ones(n)), rng.uniform(0.1, 9, n)
    sigma = np.array([float(level.sigma) for level in levels])
    bell = np.exp(-((np.log(sigma) + 0.4) ** 2) / 2)
    flat = np.full(n, 1 / n)
    pairs = ((flat, np.ones(n)), (bell / bell.sum(), sigma**2 + 0.25), (flat, 2 * sigma), random)
    return tuple(Schedule(levels, tuple(p), tuple(w)) for p, w in pairs)


# Eqs. (23), (126); with ``none`` for the weight, Eq. (21)
def objective(
    grid: Grid, world: World, schedule: Schedule, eta: float, weight: Weight
) -> Objective:
    """The objective over tables s(y, t, c) of shape (T, C, Y, d)."""
    priors, mass = world.priors, [grid.mass(part) for part in world.classes]
    ratios = [weight(grid, world, level) for level in schedule.levels]
    targets = [grid.target(level) for level in schedule.levels]
    transitions = [grid.transition(level) for level in schedule.levels]

    def value(table: Tensor) -> Tensor:
        total = table.new_zeros(())
        for t in range(len(schedule.levels)):
            error = [squared_error(targets[t], field) for field in table[t]]
            for c, p_c in enumerate(priors):
                positive = error[c]
                other = sum(p_c2 * ratios[t][k] * error[k] for k, p_c2 in enumerate(priors))
                loss = positive + eta * (positive - other)
                mean = (mass[c][:, None] * transitions[t] * loss).sum()
                total = total + schedule.p[t] * schedule.w[t] * p_c * mean
        return total

    return value


# Eqs. (24), (130): the DSM term and the second form of the regulariser
def second_form(
    grid: Grid, world: World, level: Level, eta: float, *, as_printed: bool = False
) -> Objective:
    """The objective over tables (C, Y, d), each class with negatives y ~ p.

    As printed the negative's target is ∇ log p_0t(y_t|x): of the positive sample x, which is
    independent of y_t.
    """
    target, p_0t = grid.target(level), grid.transition(level)
    ratio = adaptive(grid, world, level)
    pairs = grid.mass(world.marginal)[:, None] * p_0t

    def value(table: Tensor) -> Tensor:
        total = table.new_zeros(())
        for c, p_c in enumerate(world.priors):
            error = squared_error(target, table[c])
            own = grid.mass(world.classes[c])[:, None]
            drawn = own * grid.density(world.marginal, level) if as_printed else pairs
            negative = (drawn * ratio[c] * error).sum()
            total = total + p_c * ((1 + eta) * (own * p_0t * error).sum() - eta * negative)
        return total

    return value
