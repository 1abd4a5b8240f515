"""Denoising score matching objectives by quadrature, and their minimisers by their slopes alone.

A score field is a table: one vector for each place y where it is asked for. Clean points x lie on
a grid that is much finer than the mixtures, so sums over it are integrals to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mclr.theory.lab.mixtures import Array, Level, Mixture

Objective = Callable[[Tensor], Tensor]
"""Score table (..., Y, d) -> scalar."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Clean points x (X, d) of one cell each, and the places y (Y, d) of the score table."""

    x: Array
    cell: float
    y: Array

    def mass(self, density: Mixture) -> Tensor:
        """p(x) dx: (X,)."""
        return torch.from_numpy(np.exp(density.log_density(self.x)) * self.cell)

    def density(self, mixture: Mixture, level: Level) -> Tensor:
        """p_t(y): (Y,)."""
        return torch.from_numpy(np.exp(mixture.at(level).log_density(self.y)))

    # Eq. (143)
    def transition(self, level: Level) -> Tensor:
        """p_0t(y|x) = N(y; s x, s² σ² I): (X, Y)."""
        square = ((self.y - level.s * self.x[:, None]) ** 2).sum(-1)
        variance = level.variance
        norm = (2 * np.pi * variance) ** (-self.y.shape[1] / 2)
        return torch.from_numpy(norm * np.exp(-square / (2 * variance)))

    # Eq. (144)
    def target(self, level: Level) -> Tensor:
        """∇ log p_0t(y|x) = (s x − y) / (s² σ²): (X, Y, d)."""
        return torch.from_numpy((level.s * self.x[:, None] - self.y) / level.variance)


def grid_1d(low: float, high: float, places: int, step: float = 0.02) -> Grid:
    """x from −10 to 10 in steps of ``step``; ``places`` values of y from low to high."""
    x = np.arange(-10, 10, step)[:, None]
    return Grid(x, step, np.linspace(low, high, places)[:, None])


def grid_2d(places: int, seed: int, step: float = 0.1) -> Grid:
    """x on a square of side 9 around 0; ``places`` random y within 1.5 of 0 on each axis."""
    axis = np.arange(-4.5, 4.5, step)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return Grid(x, step**2, np.random.default_rng(seed).uniform(-1.5, 1.5, (places, 2)))


def squared_error(target: Tensor, field: Tensor) -> Tensor:
    """‖target − s(y)‖²: (X, Y) from targets (X, Y, d) and a field (Y, d)."""
    return (target - field).square().sum(-1)


@dataclass(frozen=True, eq=False)
class Stationary:
    """Where the slope vanishes, shape of the table, and the curvature there.

    A minimum where the curvature is positive; where it is negative the objective has none.
    """

    table: Array
    curvature: Array


def stationary(objective: Objective, shape: tuple[int, ...]) -> Stationary:
    """The stationary point of an objective that is quadratic in each entry of the table.

    Only slopes of the objective are used: they are straight lines, known from two places.
    """
    at_zero = _slope(objective, torch.zeros(shape, dtype=torch.float64))
    at_one = _slope(objective, torch.ones(shape, dtype=torch.float64))
    curvature = at_one - at_zero
    return Stationary((-at_zero / curvature).numpy(), curvature.numpy())


def _slope(objective: Objective, table: Tensor) -> Tensor:
    table = table.requires_grad_()
    (slope,) = torch.autograd.grad(objective(table), table)
    return slope


def relative_error(found: Array, expected: Array) -> float:
    """Largest difference over the table, in units of the largest expected value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
