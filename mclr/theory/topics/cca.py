"""CCA: the same optimum as CC-DPO at one λ per class, and what other λ give."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mclr.theory.lab.statement import Statement
from mclr.theory.lab.tables_dpo import (
    cca_best_distribution,
    cca_optimum,
    ccdpo_optimum,
    log_ratio,
    normalising_strength,
    powered,
)
from mclr.theory.lab.tabular import (
    LEAK,
    Array,
    World,
    positive_worlds,
    small_world,
    total_variation,
)
from mclr.theory.topics.cca_figure import draw

BETAS = (2.0, 1.0, 0.5, 0.1, 0.02)
STRENGTHS = (0.1, 1.0, 5.0, 50.0)
NEWTON = "Newton's method stops where rounding does, on logarithms up to 100"


def optimum_error(world: World, beta: float, strength: float) -> float:
    """Largest difference of log p_θ(x|c) between the optimum of (116) and (118)."""
    reference = world.mixed(LEAK)
    closed = powered(world, beta, reference, strength)
    return float(np.abs(cca_optimum(world, beta, reference, strength) - closed).max())


def ccdpo_error(world: World, beta: float) -> float:
    """λ(c) of (119) for each class: largest difference of log p_θ(x|c) from CC-DPO's optimum.

    CCA's table is not normalised here: that it sums to 1 is part of what is checked.
    """
    reference = world.mixed(LEAK)
    found = [
        cca_optimum(world, beta, reference, float(strength))[c]
        for c, strength in enumerate(normalising_strength(world, beta, reference))
    ]
    return float(np.abs(np.array(found) - ccdpo_optimum(world, beta, reference)).max())


def single_strength_error(world: World, beta: float) -> float:
    """One λ for all classes, the best: the largest | log of the mass | of a class."""
    reference = world.mixed(LEAK)

    def worst(log_strength: float) -> float:
        table = cca_optimum(world, beta, reference, float(np.exp(log_strength)))
        return float(np.abs(np.log(np.exp(table).sum(axis=1))).max())

    return float(minimize_scalar(worst, bounds=(-3, 5), method="bounded").fun)


def strength_excess(world: World, beta: float) -> float:
    """How far log λ(c) of (119) lies outside of E_{p_ref} log p(x|c)/p(x) to log 1/p(c)."""
    reference = world.mixed(LEAK)
    strength = np.log(normalising_strength(world, beta, reference))
    least = (reference * log_ratio(world)).sum(axis=1)
    most = -np.log(world.prior)
    return max(0.0, float(np.maximum(least - strength, strength - most).max()))


def distribution_distance(world: World, beta: float, c: int, factor: float) -> float:
    """Total variation from (20) of the best distribution for (116) at λ = factor · λ(c)."""
    reference = world.mixed(LEAK)
    strength = factor * float(normalising_strength(world, beta, reference)[c])
    closed = np.exp(log_softmax(powered(world, beta, reference), axis=1))[c]
    found = cca_best_distribution(world, c, beta, reference, strength)
    return float(total_variation(found, closed))


def largest_share(world: World, beta: float, c: int, strength: float) -> float:
    """Largest probability in the best distribution for (116)."""
    found: Array = cca_best_distribution(world, c, beta, world.mixed(LEAK), strength)
    return float(found.max())


def run(figures: Path) -> list[Statement]:
    """Every statement of Appendix C, and its figure."""
    worlds = positive_worlds()
    settings = [(world, beta) for world in worlds for beta in BETAS]
    draw(figures)
    state = partial(
        Statement,
        title="CCA (Appendix C)",
        world=f"{len(worlds)} worlds of 10 points and 3 classes, β in {BETAS}, base leaks {LEAK}",
        tolerance=1e-11,
        reason=NEWTON,
        figure="cca",
    )
    return [
        state(
            id="cca-optimum",
            equations="(111), (113), (116), (118)",
            claim="The positive table, of any sum, that maximises (116) is (118), "
            f"λ in {STRENGTHS}",
            deviation=max(optimum_error(*s, strength) for s in settings for strength in STRENGTHS),
        ),
        state(
            id="cca-same-as-ccdpo",
            equations="(19), (116), (119)",
            claim="At λ(c) = Z̃(c)^β of (119), the optimum of (116) sums to 1 and is that of CC-DPO",
            deviation=max(ccdpo_error(*setting) for setting in settings),
        ),
        state(
            id="cca-one-strength",
            equations="(116), (119)",
            claim="One constant λ makes the optima of all classes distributions (β ≥ 0.5; largest "
            "|log of a class's sum| at the best λ)",
            deviation=max(single_strength_error(w, beta) for w in worlds for beta in BETAS[:3]),
        ),
        state(
            id="cca-strength-range",
            equations="(119)",
            claim="log λ(c) lies between E_{p_ref} log p(x|c)/p(x) and log 1/p(c)",
            deviation=max(strength_excess(*setting) for setting in settings),
        ),
        *_on_distributions(state),
    ]


def _on_distributions(state: partial[Statement]) -> list[Statement]:
    """What is left of (116) when p_θ is a distribution, as a model's is."""
    world = small_world()
    cases = [(beta, c) for beta in (1.0, 0.5) for c in range(3)]
    state = partial(state, world=f"{world.name}, base leaks {LEAK}")
    return [
        state(
            id="cca-distribution",
            equations="(116), (119)",
            claim="Among distributions too, (116) at λ(c) is largest at CC-DPO's optimum, from "
            "every start",
            deviation=max(distribution_distance(world, beta, c, 1.0) for beta, c in cases),
            tolerance=1e-6,
            reason="trades stop at 1e-12; flat optimum",
        ),
        state(
            id="cca-other-strengths",
            equations="(116)",
            claim="Among distributions another λ has another optimum: at λ(c)/2 and 2 λ(c) its "
            "total variation is at least 0.01 (shortfall)",
            deviation=max(
                0.0,
                *(0.01 - distribution_distance(world, b, c, f) for b, c in cases for f in (0.5, 2)),
            ),
            tolerance=0.0,
            reason="total variation known to 1e-6",
        ),
        state(
            id="cca-collapse",
            equations="(116)",
            claim="Among distributions a large λ (50) collapses the optimum to one point (β = 0.5)",
            deviation=max(1 - largest_share(world, 0.5, c, 50.0) for c in range(3)),
            tolerance=0.05,
            reason="“one point” read as 95 % of the probability",
        ),
    ]
