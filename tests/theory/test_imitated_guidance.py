"""Distillation, GFT and MG have classifier-free guidance as their optimum, on exact worlds.

Denoisers by quadrature of Gaussian mixtures, token models in tables; the mixes are the library's.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mclr.prediction import Denoised, Logits
from mclr.theory.lab.mixtures import Array, Level, World, guided_score, line, plane
from mclr.theory.lab.score_matching import (
    Grid,
    grid_1d,
    grid_2d,
    relative_error,
    stationary,
)
from mclr.theory.lab.tabular import positive_worlds, total_variation

SIGMA_DATA = 0.7
GAMMAS = (0.5, 1.0, 3.0)
SIGMAS = (0.4, 1.0)


def beta_of(gamma: float) -> float:
    return 1 / (1 + gamma)


def w_of(gamma: float) -> float:
    return gamma / (1 + gamma)


WORLDS = {"line": (line(), grid_1d(-2, 3, 9)), "plane": (plane(), grid_2d(8, seed=1))}


def expected_error(grid: Grid, mass: Tensor, level: Level, said: Denoised) -> Tensor:
    """E over x ~ p and y of w(σ) ‖x − D(y)‖², each y by itself: a sum over the table."""
    transition = grid.transition(level)
    x = torch.from_numpy(grid.x)
    total = torch.zeros((), dtype=torch.float64)
    for j in range(len(grid.y)):
        row = Denoised(said.values[j].expand(len(x), -1), said.sigma[0].expand(len(x)), SIGMA_DATA)
        total = total - (mass * transition[:, j] * row.log_likelihood(x)).sum()
    return total


def guided_denoiser(world: World, grid: Grid, level: Level, c: int, gamma: float) -> Array:
    """D of Eq. (7): y + σ² (s_c + γ (s_c − s))."""
    own, every = world.classes[c].at(level), world.marginal.at(level)
    return np.asarray(grid.y + level.variance * guided_score(own, every, grid.y, gamma))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("method", ["gft", "mg", "distill"])
def test_denoisers_at_rest_are_guided(world: str, gamma: float, sigma: float, method: str) -> None:
    """At β = 1/(1 + γ), w = γ/(1 + γ) and γ: y + σ² times the CFG score, to quadrature's error.

    The null label's denoiser is at rest where label dropout puts it, at that of the marginal.
    """
    exact, grid = WORLDS[world]
    level, c, shape = Level(sigma), 1, grid.y.shape
    own, marginal = grid.mass(exact.classes[c]), grid.mass(exact.marginal)
    levels = torch.full((len(grid.y),), sigma, dtype=torch.float64)

    def said(table: Tensor) -> Denoised:
        return Denoised(table, levels, SIGMA_DATA)

    def dropped(table: Tensor) -> Tensor:
        return expected_error(grid, marginal, level, said(table))

    null = stationary(dropped, shape).table
    assert relative_error(null, guided_denoiser(exact, grid, level, c, -1.0)) < 1e-9
    without = said(torch.from_numpy(null))

    def objective(table: Tensor) -> Tensor:
        policy = said(table)
        if method == "gft":
            return expected_error(
                grid, own, level, policy.unguided(without, 1 / beta_of(gamma) - 1)
            )
        if method == "mg":
            w, here = w_of(gamma), said(table.detach())
            moved = policy.shifted(here.unguided(without, w / (1 - w)).values - here.values)
            return expected_error(grid, own, level, moved)
        base = said(torch.from_numpy(guided_denoiser(exact, grid, level, c, 0.0)))
        return policy.divergence(base.guided(without, gamma)).sum()

    found = stationary(objective, shape)
    assert (found.curvature > 0).all()
    assert relative_error(found.table, guided_denoiser(exact, grid, level, c, gamma)) < 1e-9
    assert relative_error(found.table, guided_denoiser(exact, grid, level, c, 0.0)) > 1e-2


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("ramp", [0.5, 1.0])
@pytest.mark.parametrize("method", ["gft", "mg", "distill"])
def test_tokens_at_rest_are_powered(gamma: float, ramp: float, method: str) -> None:
    """p(x|c) (p(x|c)/p(x))^γ, normalised: the guided softmax of one token, reached from p(x|c)."""
    for world in positive_worlds()[:2]:
        p, marginal = torch.from_numpy(world.conditional[1]), torch.from_numpy(world.marginal)
        powered = p.log() + ramp * gamma * (p.log() - marginal.log())
        optimum = powered.softmax(0).numpy()
        strength = torch.tensor([[ramp]], dtype=torch.float64)
        codes = torch.arange(len(p))[:, None]

        def said(logits: Tensor, strength: Tensor = strength) -> Logits:
            return Logits(logits.expand(len(logits), 1, -1), strength)

        def loss(
            logits: Tensor, p: Tensor = p, marginal: Tensor = marginal, codes: Tensor = codes
        ) -> Tensor:
            policy, null = said(logits), said(marginal.log())
            if method == "distill":
                return policy.divergence(said(p.log()).guided(null, gamma)).mean()
            if method == "gft":
                mixed = policy.unguided(null, gamma)
            else:
                here = said(logits.detach())
                mixed = policy.shifted(here.unguided(null, gamma).values - here.values)
            return -(p * mixed.log_likelihood(codes)).sum()

        def slope(logits: Tensor) -> Tensor:
            logits = logits.clone().requires_grad_()
            (found,) = torch.autograd.grad(loss(logits), logits)
            return found

        assert slope(powered).abs().max() < 1e-14
        logits = p.log()
        for _ in range(3000):
            logits = logits - 2 * slope(logits)
        apart = float(total_variation(logits.softmax(0).numpy(), optimum))
        start = float(total_variation(p.numpy(), optimum))
        assert apart < 1e-2 * start
