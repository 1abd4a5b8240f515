"""The remark after Theorem 2: a point x̃ that one class alone reaches, so that p(x̃) is small."""

from __future__ import annotations

import numpy as np

from mclr.theory.lab.tables_dpo import ccdpo_optimum
from mclr.theory.lab.tables_mclr import fine_tuned
from mclr.theory.lab.tabular import LEAK, World

FLOOR = 1e-13


def lone_world(rarity: float, share: float = 0.05) -> World:
    """Two classes that overlap except at the first point, x̃, where class 1 of prior ``rarity``
    puts ``share`` of its probability and class 2 none: p(x̃) = rarity · share.
    """
    first = np.array([share, *((1 - share) * np.array([0.4, 0.3, 0.2, 0.1]))])
    conditional = np.array([first, [0.0, 0.1, 0.2, 0.3, 0.4]])
    prior = np.array([rarity, 1 - rarity])
    return World(f"5 points, p(1) = {rarity:g}", prior, conditional, np.ones(5, dtype=bool))


def share_ccdpo(world: World, beta: float) -> float:
    """p_θ(x̃|1) at the optimum of (19); the base model leaks as (18) says."""
    return float(np.exp(ccdpo_optimum(world, beta, world.mixed(LEAK))[0, 0]))


def share_mclr(world: World, eta: float) -> float:
    """p_θ(x̃|1) at the optimum of (13), from the same base model."""
    return float(fine_tuned(world, eta, world.mixed(LEAK), world.floor(FLOOR))[0, 0])


def excess_mclr(world: World, eta: float) -> float:
    """By how much MCLR's share of x̃ is above p_ref(x̃|1) + η p(x̃|1); at least 0."""
    bound = world.mixed(LEAK)[0, 0] + eta * world.conditional[0, 0]
    return max(0.0, share_mclr(world, eta) - float(bound))


def share_of_difference(world: World) -> float:
    """Share of x̃ in (p(x|1) − p(x))⁺, normalised: the limit of MCLR for large η."""
    positive = np.maximum(world.conditional[0] - world.marginal, 0)
    return float(positive[0] / positive.sum())
