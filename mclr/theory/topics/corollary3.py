"""Corollary 3: CFG, Autoguidance and reward guidance as minimisers of one objective."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from mclr.theory.lab.mixtures import Array, Level, Mixture, guided_score, line, mix
from mclr.theory.lab.optimise import maximise_on_simplex
from mclr.theory.lab.score_matching import (
    Grid,
    Objective,
    Stationary,
    grid_1d,
    relative_error,
    squared_error,
    stationary,
)
from mclr.theory.lab.statement import Statement
from mclr.theory.topics.corollary3_figure import draw

LEVELS = (Level(0.3), Level(1.0), Level(4.0), Level(0.5, 0.89), Level(2.0, 0.45))
ETAS = (0.5, 1.0, 3.0)
FLOOR = 1e-5


@dataclass(frozen=True)
class Case:
    """p⁺ and p⁻ of one guidance method, before noise."""

    name: str
    positive: Mixture
    negative: Mixture


# Reward r(x) = a·x: p⁺ ∝ p⁻ exp(r) is again a mixture.
def tilt(mixture: Mixture, a: Array) -> Mixture:
    """mixture(x) exp(a·x), normalised; a (d,): what maximises E r − KL to the mixture."""
    log_weights = np.log(mixture.weights) + mixture.means @ a + mixture.variances * (a @ a) / 2
    weights = np.exp(log_weights - log_weights.max())
    means = mixture.means + mixture.variances[:, None] * a
    return Mixture(weights / weights.sum(), means, mixture.variances)


def weaker(strong: Mixture, every: Mixture) -> Mixture:
    """A worse model of ``strong``: components 2.5 times as broad, a fifth leaked to p(x)."""
    broad = Mixture(strong.weights, strong.means, 2.5 * strong.variances)
    return mix(np.array([0.8, 0.2]), (broad, every))


def cases() -> tuple[Case, ...]:
    """The three of Appendix D.2, in the 1-D world."""
    world = line()
    own, every = world.classes[1], world.marginal
    return (
        Case("Classifier-free guidance", own, every),
        Case("Autoguidance", own, weaker(own, every)),
        Case("Reward guidance", tilt(every, np.array([0.8])), every),
    )


# p_t⁺(y) / p_t⁻(y) of Eq. (141)
def adaptive(grid: Grid, case: Case, level: Level) -> Tensor:
    """The weight of Corollary 3 at the places of the grid: (Y,)."""
    return grid.density(case.positive, level) / grid.density(case.negative, level)


# Eq. (141) at one t; p(t) w(t) scales it.
def objective(grid: Grid, case: Case, level: Level, eta: float, weight: Tensor) -> Objective:
    """The objective over tables s(y, t) of shape (Y, d), with the negative's weight (Y,)."""
    target, p_0t = grid.target(level), grid.transition(level)
    plus, minus = (grid.mass(p)[:, None] * p_0t for p in (case.positive, case.negative))

    def value(table: Tensor) -> Tensor:
        error = squared_error(target, table)
        return (1 + eta) * (plus * error).sum() - eta * (minus * weight * error).sum()

    return value


def minimiser(
    grid: Grid, case: Case, level: Level, eta: float, weight: Tensor | None = None
) -> Stationary:
    """Stationary table (Y, d) of (141); ``weight`` replaces the adaptive one."""
    used = adaptive(grid, case, level) if weight is None else weight
    return stationary(objective(grid, case, level, eta, used), grid.y.shape)


def deviation(
    grid: Grid, case: Case, level: Level, eta: float, weight: Tensor | None = None
) -> float:
    """Relative distance of the minimiser from (140); infinite if there is no minimum."""
    found = minimiser(grid, case, level, eta, weight)
    if not (found.curvature > 0).all():
        return float("inf")
    plus, minus = case.positive.at(level), case.negative.at(level)
    return relative_error(found.table, guided_score(plus, minus, grid.y, eta))


def bins(mixture: Mixture, x: Array) -> Array:
    """Probabilities of bins with centres x (N,): density at the centre, normalised."""
    density = np.exp(mixture.log_density(x[:, None]))
    return np.asarray(density / density.sum())


# Eq. (142)
def likelihood_optimum(case: Case, x: Array, eta: float) -> Array:
    """The bin probabilities above a floor that maximise (142), by trades between bins: (N,)."""
    plus, minus = bins(case.positive, x), bins(case.negative, x)

    def slope(i: int, p: float) -> float:
        return float(((1 + eta) * plus[i] - eta * minus[i]) / p)

    floor = np.full(len(x), FLOOR)
    return maximise_on_simplex(slope, floor, np.full(len(x), 1 / len(x)))


# Eqs. (16), (17) with h = p⁺ + η (p⁺ − p⁻)
def likelihood_claim(case: Case, x: Array, eta: float) -> Array:
    """max{h / Z, floor} with Z by bisection: (N,)."""
    h = (1 + eta) * bins(case.positive, x) - eta * bins(case.negative, x)
    low, high = 1e-3, 1e3
    for _ in range(200):
        Z = np.sqrt(low * high)
        low, high = (Z, high) if np.maximum(h / Z, FLOOR).sum() > 1 else (low, Z)
    return np.asarray(np.maximum(h / Z, FLOOR))


def likelihood_deviation(case: Case, eta: float) -> float:
    """Largest difference between optimum and claim of (142) over 21 bins."""
    x = np.linspace(-3, 4, 21)
    found = likelihood_optimum(case, x, eta)
    return float(np.abs(found - likelihood_claim(case, x, eta)).max())


def run(figures: Path) -> list[Statement]:
    """Every case of Corollary 3, and the figure."""
    grid = grid_1d(-3.5, 4, 61)
    draw(
        [
            (case.name, case.positive.at(level), case.negative.at(level),
             minimiser(grid, case, level, 1.0))
            for case in cases() for level in LEVELS[:2]
        ],
        grid.y, figures,
    )  # fmt: skip
    state = partial(
        Statement,
        title="Corollary 3",
        world=f"{line().name}; σ in 0.3 … 4 with s = 1 and s < 1, η in {ETAS}",
        figure="corollary3",
    )
    return [
        *(
            state(
                id=f"corollary3-{case.name.split()[0].lower()}",
                equations="(140), (141)",
                claim=f"{case.name}: the minimiser of (141), found from its slopes alone, is the "
                "guided score (140)",
                deviation=max(
                    deviation(grid, case, level, eta) for level in LEVELS for eta in ETAS
                ),
                tolerance=1e-9,
                reason="quadrature and slopes in float64, cancellation included",
            )
            for case in cases()
        ),
        state(
            id="corollary3-likelihood",
            equations="(142)",
            claim="The density that maximises (142) above a floor is max{h/Z, floor} with "
            "h = p⁺ + η(p⁺ − p⁻), in all three cases",
            world=f"{line().name} in 21 bins, floor {FLOOR:g}, η in {ETAS}",
            deviation=max(likelihood_deviation(case, eta) for case in cases() for eta in ETAS),
            tolerance=1e-12,
            reason="pairwise trades stop at 1e-15, and sums round",
            figure=None,
        ),
    ]
