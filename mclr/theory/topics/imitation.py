"""Distillation, GFT and MG: the optimum of each is classifier-free guidance of the exact model.

Denoisers by quadrature of Gaussian mixtures, token models in tables. What the losses mix, and how
they weigh an error, is the library's (``mclr.likelihood.prediction``); their optima are found by
slopes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mclr.likelihood.prediction import Denoised, Logits, Prediction
from mclr.theory.lab.mixtures import Array, Level, guided_score, line, plane
from mclr.theory.lab.mixtures import World as Mixtures
from mclr.theory.lab.score_matching import Grid, grid_1d, grid_2d, relative_error, stationary
from mclr.theory.lab.statement import Statement
from mclr.theory.lab.tabular import World, positive_worlds

SIGMA_DATA = 0.7
CLASS = 1
GAMMAS = (0.5, 1.0, 3.0)
SIGMAS = (0.4, 1.0)
BETAS = (0.1, 0.25, 0.5, 0.75, 1.0)
RAMPS = (0.5, 1.0)
METHODS = {"gft": "GFT at β", "mg": "MG at w", "distillation": "distillation at γ"}
STRENGTH = {"gft": "1/β − 1", "mg": "w/(1 − w)", "distillation": "γ"}
GRIDS: dict[str, Callable[[], tuple[Mixtures, Grid]]] = {
    "line": lambda: (line(), grid_1d(-2, 3, 9)),
    "plane": lambda: (plane(), grid_2d(8, seed=1)),
}


def mixed(method: str, policy: Prediction, null: Prediction, gamma: float) -> Prediction:
    """What the likelihood of GFT or MG is taken of, at the β or w that stands for γ."""
    if method == "gft":
        beta = 1 / (1 + gamma)
        return policy.unguided(null, 1 / beta - 1)
    w = gamma / (1 + gamma)
    here = type(policy)(**vars(policy) | {"values": policy.values.detach()})
    return policy.shifted(here.unguided(null, w / (1 - w)).values - here.values)


# ------------------------------------------------------------------ denoisers


def said(table: Tensor, sigma: float) -> Denoised:
    """A table of denoised points (Y, d), all at one noise level."""
    levels = torch.full((len(table),), sigma, dtype=torch.float64)
    return Denoised(table, levels, SIGMA_DATA)


def expected_error(grid: Grid, mass: Tensor, level: Level, policy: Prediction) -> Tensor:
    """E over x ~ p and y of w(σ) ‖x − D(y)‖², each y by itself: a sum over the table."""
    transition, x = grid.transition(level), torch.from_numpy(grid.x)
    total = torch.zeros((), dtype=torch.float64)
    for j in range(len(grid.y)):
        row = said(policy.values[j].expand(len(x), -1), float(level.sigma))
        total = total - (mass * transition[:, j] * row.log_likelihood(x)).sum()
    return total


# Eq. (7) for denoisers: D = y + σ² s
def guided_denoiser(world: Mixtures, grid: Grid, level: Level, gamma: float) -> Array:
    """y + σ² (s_c + γ (s_c − s)) at the places of a grid: (Y, d)."""
    own, every = world.classes[CLASS].at(level), world.marginal.at(level)
    return np.asarray(grid.y + level.variance * guided_score(own, every, grid.y, gamma))


def denoiser_at_rest(method: str, name: str, gamma: float, sigma: float) -> tuple[Array, Array]:
    """(Y, d) where the loss has its minimum, and its curvature there.

    The null label's denoiser is at rest where label dropout puts it: at that of the marginal.
    """
    world, grid = GRIDS[name]()
    level, shape = Level(sigma), grid.y.shape
    own = grid.mass(world.classes[CLASS])
    null = said(torch.from_numpy(guided_denoiser(world, grid, level, -1.0)), sigma)

    def objective(table: Tensor) -> Tensor:
        policy = said(table, sigma)
        if method == "distillation":
            base = said(torch.from_numpy(guided_denoiser(world, grid, level, 0.0)), sigma)
            return policy.divergence(base.guided(null, gamma)).sum()
        return expected_error(grid, own, level, mixed(method, policy, null, gamma))

    found = stationary(objective, shape)
    return found.table, found.curvature


def denoiser_error(method: str, name: str, gamma: float, sigma: float) -> float:
    """Relative distance of the minimum from CFG; infinite where there is no minimum."""
    world, grid = GRIDS[name]()
    found, curvature = denoiser_at_rest(method, name, gamma, sigma)
    if not (curvature > 0).all():
        return float("inf")
    return relative_error(found, guided_denoiser(world, grid, Level(sigma), gamma))


def null_error(name: str, sigma: float) -> float:
    """The same of the null label's denoiser, trained on samples that lost their label."""
    world, grid = GRIDS[name]()
    level, marginal = Level(sigma), grid.mass(world.marginal)
    found = stationary(
        lambda table: expected_error(grid, marginal, level, said(table, sigma)), grid.y.shape
    )
    return relative_error(found.table, guided_denoiser(world, grid, level, -1.0))


def dial_error(name: str, sigma: float) -> float:
    """GFT with β as an input, one loss for all of ``BETAS``: the largest distance from CFG."""
    world, grid = GRIDS[name]()
    level, (places, d) = Level(sigma), grid.y.shape
    own = grid.mass(world.classes[CLASS])
    gamma = torch.tensor([1 / beta - 1 for beta in BETAS], dtype=torch.float64)
    null = torch.from_numpy(guided_denoiser(world, grid, level, -1.0))

    def objective(table: Tensor) -> Tensor:
        policy = said(table.reshape(-1, d), sigma)
        without = said(null.repeat(len(BETAS), 1), sigma)
        mix = policy.unguided(without, gamma.repeat_interleave(places))
        parts = mix.values.view(len(BETAS), places, d)
        return torch.stack([expected_error(grid, own, level, said(v, sigma)) for v in parts]).sum()

    found = stationary(objective, (len(BETAS), places, d)).table
    return max(
        relative_error(found[i], guided_denoiser(world, grid, level, float(g)))
        for i, g in enumerate(gamma)
    )


# ------------------------------------------------------------------ tokens


# p(x|c) (p(x|c)/p(x))^γ / Z, the guided softmax of one token
def guided_logits(world: World, gamma: float) -> Tensor:
    """Logarithm of the powered table of a class, (N,), not normalised."""
    p, marginal = torch.from_numpy(world.conditional[CLASS]), torch.from_numpy(world.marginal)
    return p.log() + gamma * (p.log() - marginal.log())


def token_slope(method: str, world: World, gamma: float, ramp: float, logits: Tensor) -> Tensor:
    """Gradient of the loss at logits (N,) of one token whose guidance has the strength ``ramp``."""
    p, marginal = torch.from_numpy(world.conditional[CLASS]), torch.from_numpy(world.marginal)
    strength = torch.tensor([[ramp]], dtype=torch.float64)
    codes = torch.arange(len(p))[:, None]

    def tokens(values: Tensor) -> Logits:
        return Logits(values.expand(len(p), 1, -1), strength)

    logits = logits.clone().requires_grad_()
    policy, null = tokens(logits), tokens(marginal.log())
    if method == "distillation":
        loss = policy.divergence(tokens(p.log()).guided(null, gamma)).mean()
    else:
        loss = -(p * mixed(method, policy, null, gamma).log_likelihood(codes)).sum()
    (slope,) = torch.autograd.grad(loss, logits)
    return slope


def token_error(method: str, world: World, gamma: float, ramp: float) -> float:
    """Largest slope of the loss at the softmax of CFG at γ times the strength."""
    optimum = guided_logits(world, ramp * gamma)
    return float(token_slope(method, world, gamma, ramp, optimum).abs().max())


def run(figures: Path) -> list[Statement]:
    """Every optimum as a statement; there is no figure."""
    worlds = positive_worlds()
    denoisers = [(name, g, s) for name in GRIDS for g in GAMMAS for s in SIGMAS]
    tokens = [(world, g, ramp) for world in worlds for g in GAMMAS for ramp in RAMPS]
    state = partial(Statement, title="What imitates CFG", equations="(7)")
    quadrature = partial(
        state,
        world=f"1-D and 2-D mixtures, σ in {SIGMAS}",
        tolerance=1e-9,
        reason="quadrature of Gaussians",
    )
    return [
        quadrature(
            id="imitation-null",
            claim="Samples without their labels put the null label's denoiser at that of p(x)",
            deviation=max(null_error(name, sigma) for name in GRIDS for sigma in SIGMAS),
        ),
        *(
            quadrature(
                id=f"imitation-{method}",
                claim=f"The denoiser at which {words} has its minimum is CFG's at γ = "
                f"{STRENGTH[method]}, γ in {GAMMAS}",
                deviation=max(denoiser_error(method, *setting) for setting in denoisers),
            )
            for method, words in METHODS.items()
        ),
        quadrature(
            id="imitation-dial",
            claim="With β as an input one minimum of GFT is CFG's at γ = 1/β − 1 for every β in "
            f"{BETAS}",
            deviation=max(dial_error(name, sigma) for name in GRIDS for sigma in SIGMAS),
        ),
        *(
            state(
                id=f"imitation-{method}-tokens",
                claim=f"The gradient of {words} is zero at the softmax of guided logits, "
                f"p(x|c) (p(x|c)/p(x))^γ, γ = {STRENGTH[method]}",
                world=f"{len(worlds)} worlds of 10 codes and 3 classes, γ in {GAMMAS}, at the "
                f"shares {RAMPS} of it that VAR's scales have",
                deviation=max(token_error(method, *setting) for setting in tokens),
                tolerance=1e-14,
                reason="rounding of a softmax over 10 codes",
            )
            for method, words in METHODS.items()
        ),
    ]
