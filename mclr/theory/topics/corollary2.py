"""Corollary 2: the base model from which CC-DPO recovers p(x|c), and when there is one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.statement import Statement
from mclr.theory.lab.tables_dpo import ccdpo_optimum
from mclr.theory.lab.tabular import (
    Array,
    World,
    divergence,
    line_world,
    positive_worlds,
    random_world,
)

BETAS = (2.0, 1.0, 0.5, 0.25)
LEAKING = (1.0, 2.0, 5.0)
CONTRARY = (0.9, 0.5, 0.25)
EMPTIED = 1e-12
ROUNDING = "sums of ten terms in double precision"


# Eq. (101)
def mistaken(world: World, beta: float) -> Array:
    """log p_ref ∝ log p(x|c)^(1 − 1/β) p(x)^(1/β), normalised, shape (M, N)."""
    inverse = 1 / beta
    mixed = (1 - inverse) * np.log(world.conditional) + inverse * np.log(world.marginal)
    return np.asarray(log_softmax(mixed, axis=1))


def recovery_error(world: World, beta: float) -> float:
    """Largest difference of log p_θ(x|c) from log p(x|c) at the optimum of (19)."""
    found = ccdpo_optimum(world, beta, np.exp(mistaken(world, beta)))
    return float(np.abs(found - np.log(world.conditional)).max())


def informed(world: World, beta: float) -> Array:
    """E_{p(x|c)} log p_ref(x|c) / p(x), shape (M,): what the base knows of its class, in nats.

    p(x|c) itself has the KL divergence from p(x); a model that ignores its class has 0.
    """
    return np.asarray((world.conditional * (mistaken(world, beta) - np.log(world.marginal))).sum(1))


def emptied(world: World, left: float) -> World:
    """The world with p(x|1) at its first point scaled to ``left``, the other points taking it."""
    conditional = world.conditional.copy()
    conditional[0, 1:] *= (1 - left) / conditional[0, 1:].sum()
    conditional[0, 0] = left
    return World(world.name, world.prior, conditional, world.inside)


def share_where_empty(left: float, beta: float) -> float:
    """p_ref(x|1) of (101) at a point where p(x|1) = ``left`` and p(x) is not small."""
    return float(np.exp(mistaken(emptied(random_world(1), left), beta)[0, 0]))


def run(figures: Path) -> list[Statement]:
    """Every statement of Corollary 2, and its figure."""
    worlds = positive_worlds()
    draw(figures)
    state = partial(
        Statement,
        title="Corollary 2",
        world=f"{len(worlds)} worlds of 10 points and 3 classes",
        figure="corollary2",
    )
    return [
        state(
            id="corollary2-recovers",
            equations="(19), (101)",
            claim=f"From the base model (101), CC-DPO gives p(x|c) back, β in {BETAS}",
            deviation=max(recovery_error(world, beta) for world in worlds for beta in BETAS),
            tolerance=1e-11,
            reason="Newton's method stops where rounding does, on logarithms up to 100",
        ),
        state(
            id="corollary2-large-beta",
            equations="(101)",
            claim="For β ≥ 1 the base (101) leaks: what it knows of its class, E log p_ref/p(x), "
            "lies between (1 − 1/β) KL and KL = KL(p(x|c) ‖ p(x))",
            deviation=max(_outside(world, beta) for world in worlds for beta in LEAKING),
            tolerance=1e-12,
            reason=ROUNDING,
        ),
        state(
            id="corollary2-small-beta",
            equations="(101)",
            claim="For β < 1 the base (101) is worse than one that ignores its class: "
            "E log p_ref/p(x) is at most (1 − 1/β) KL(p(x|c) ‖ p(x)) < 0",
            deviation=max(_above(world, beta) for world in worlds for beta in CONTRARY),
            tolerance=1e-12,
            reason=ROUNDING,
        ),
        state(
            id="corollary2-empty-points",
            equations="(101)",
            claim="For β < 1 (β = 0.5) there is no base (101) where p(x|c) = 0 < p(x): as "
            f"p(x|c) → 0 at a point ({EMPTIED:g}) essentially all of the base lies there",
            deviation=1 - share_where_empty(EMPTIED, 0.5),
            tolerance=0.01,
            reason="“essentially all” read as 99 %",
        ),
    ]


def _least(world: World, beta: float) -> Array:
    """(1 − 1/β) KL(p(x|c) ‖ p(x)), shape (M,)."""
    return (1 - 1 / beta) * divergence(world.conditional, world.marginal)


def _above(world: World, beta: float) -> float:
    """How far E log p_ref/p(x) lies above (1 − 1/β) KL; at least 0."""
    return max(0.0, float((informed(world, beta) - _least(world, beta)).max()))


def _outside(world: World, beta: float) -> float:
    """How far E log p_ref/p(x) lies outside of (1 − 1/β) KL to KL; at least 0."""
    known = informed(world, beta)
    most = divergence(world.conditional, world.marginal)
    return max(0.0, float(np.maximum(known - most, _least(world, beta) - known).max()))


def draw(folder: Path) -> None:
    """Left: the base models (101). Right: what p(x|c) → 0 at one point makes of them."""
    world, c = line_world(), 1
    with style():
        figure, (left, right) = panels(2)
        x = np.arange(len(world.marginal))
        left.plot(x, world.conditional[c], color=COLOURS["truth"], label="p(x|c)")
        left.plot(x, world.marginal, "--", color=COLOURS["truth"], label="p(x)", zorder=3)
        lefts = np.logspace(-1, -12, 12)
        for beta, colour in zip(BETAS, PALETTE, strict=False):
            label = f"base (101), β = {beta:g}"
            left.plot(x, np.exp(mistaken(world, beta))[c], color=colour, label=label)
            shares = [share_where_empty(value, beta) for value in lefts]
            right.plot(lefts, shares, "o-", color=colour, label=f"β = {beta:g}")
        left.set(xlabel="point x", ylabel="probability", title="Base models that CC-DPO corrects")
        left.legend(fontsize=7)
        right.set(xscale="log", xlabel="p(x|c) at one point", ylabel="p_ref(x|c) there")
        right.set_title("A point that the class leaves")
        right.legend(fontsize=7)
        save(figure, folder, "corollary2")
