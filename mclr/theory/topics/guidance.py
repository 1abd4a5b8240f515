"""Section 2.3's remark: what CFG samples is not the gamma-powered density.

In 1-D the probability-flow ODE keeps points in order, so its samples are computed as quantiles:
no random numbers, no sampling error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from mclr.theory.lab.drawing import COLOURS, panels, save, style
from mclr.theory.lab.mixtures import Array, Level, Mixture, guided_score, line
from mclr.theory.lab.statement import Statement

CLASS, GAMMAS = 1, (0.25, 0.5, 1.0, 2.0, 3.0)
POINTS, STEPS = 1000, 300
SIGMA_MAX, SIGMA_MIN = 80.0, 1e-3


def cdf(mixture: Mixture, x: Array) -> Array:
    """P(X ≤ x) of a 1-D mixture at x (N,)."""
    z = (x[:, None] - mixture.means[:, 0]) / np.sqrt(mixture.variances)
    return np.asarray(ndtr(z) @ mixture.weights)


def middles(n: int) -> Array:
    """n equally likely ranks: the middles of n equal parts of [0, 1]."""
    return np.asarray((np.arange(n) + 0.5) / n)


def quantiles(mixture: Mixture, u: Array) -> Array:
    """Inverse of ``cdf`` by bisection: (N,)."""
    reach = 12 * np.sqrt(mixture.variances.max()) + np.abs(mixture.means).max()
    low, high = np.full_like(u, -reach), np.full_like(u, reach)
    for _ in range(80):
        middle = (low + high) / 2
        below = cdf(mixture, middle) < u
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def flow(
    velocity: Callable[[Array, float], Array],
    x: Array,
    steps: int,
    first: float,
    last: float,
) -> Array:
    """Runge–Kutta (4th order) of dx/d ln σ = velocity(x, σ) from σ = first to σ = last."""
    grid = np.linspace(np.log(first), np.log(last), steps + 1)
    for a, b in pairwise(grid):
        h = b - a
        start, half, end = np.exp(a), np.exp((a + b) / 2), np.exp(b)
        k1 = velocity(x, start)
        k2 = velocity(x + h / 2 * k1, half)
        k3 = velocity(x + h / 2 * k2, half)
        k4 = velocity(x + h * k3, end)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


# Eq. (7) with f = 0 and g² dt = dσ²: dx/dσ = −σ s_cfg, hence dx/d ln σ = −σ² s_cfg
def guided_velocity(
    positive: Mixture, negative: Mixture, gamma: float, x: Array, sigma: float
) -> Array:
    """Velocity of the guided ODE at x (N, d)."""
    level = Level(sigma)
    return -(sigma**2) * guided_score(positive.at(level), negative.at(level), x, gamma)


def guided_samples(
    positive: Mixture, negative: Mixture, gamma: float, *, n: int = POINTS, steps: int = STEPS
) -> Array:
    """Quantiles (n,) of what the guided ODE makes of p⁺ at the largest noise level; 1-D."""
    start = quantiles(positive.at(Level(SIGMA_MAX)), middles(n))
    velocity = partial(guided_velocity, positive, negative, gamma)
    end = flow(velocity, start[:, None], steps, SIGMA_MAX, SIGMA_MIN)
    # From the smallest σ to 0 the score is as good as constant: x moves by σ² s / 2.
    return np.asarray(end - velocity(end, SIGMA_MIN) / 2)[:, 0]


# p(x|c) (p(x|c)/p(x))^γ / Z: Eq. (20) with p_ref = p(x|c), 1/β = γ
def powered_density(positive: Mixture, negative: Mixture, gamma: float, x: Array) -> Array:
    """The gamma-powered density on a fine uniform grid x (N,), normalised there."""
    own, every = positive.log_density(x[:, None]), negative.log_density(x[:, None])
    log_density = own + gamma * (own - every)
    density = np.exp(log_density - log_density.max())
    return np.asarray(density / (density.sum() * (x[1] - x[0])))


def distances(samples: Array, positive: Mixture, negative: Mixture, gamma: float) -> Array:
    """Wasserstein-1 and Kolmogorov–Smirnov distance of samples from the powered density: (2,)."""
    x = np.linspace(-12, 12, 48001)
    density = powered_density(positive, negative, gamma, x)
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    total /= total[-1]
    u = middles(len(samples))
    # Ranks where the density has not underflowed increase strictly.
    rising = np.concatenate([[True], np.diff(total) > 0])
    exact = np.interp(u, total[rising], x[rising])
    ranks = np.interp(samples, x, total)
    return np.array([np.abs(samples - exact).mean(), np.abs(ranks - u).max()])


def line_distances(gamma: float) -> Array:
    """``distances`` of CFG's samples in the 1-D world: (2,)."""
    world = line()
    own, every = world.classes[CLASS], world.marginal
    return distances(guided_samples(own, every, gamma), own, every, gamma)


# N(0, a) guided away from N(0, b): the ODE scales points by a known factor.
def gaussian_variance(a: float, b: float, gamma: float) -> float:
    """Variance of CFG's samples, in closed form for the noise level the ODE starts from.

    It tends to a (a/b)^γ as that level grows; the powered density has 1 / ((1+γ)/a − γ/b).
    """
    T = SIGMA_MAX**2
    return float(a * (a / b) ** gamma * ((b + T) / (a + T)) ** gamma)


def gaussian_error(a: float, b: float, gamma: float) -> float:
    """Relative error of the computed samples against the closed form."""
    own, every = (Mixture(np.ones(1), np.zeros((1, 1)), np.array([v])) for v in (a, b))
    samples = guided_samples(own, every, gamma)
    start = quantiles(own, middles(POINTS)) * np.sqrt(gaussian_variance(a, b, gamma) / a)
    return float(np.abs(samples - start).max() / np.abs(start).max())


def run(figures: Path) -> list[Statement]:
    """The remark as statements, and its figure."""
    by_gamma = {gamma: line_distances(gamma) for gamma in (0.0, *GAMMAS)}
    error = by_gamma[0.0]
    nearest = min((by_gamma[gamma] for gamma in GAMMAS), key=lambda d: float(d[0]))
    draw(by_gamma, figures)
    state = partial(Statement, title="Section 2.3, remark", world=line().name, figure="guidance")
    return [
        state(
            id="guidance-none",
            equations="(5), (7)",
            claim="With γ = 0 the ODE's samples are those of p(x|c): Wasserstein distance",
            deviation=float(error[0]),
            tolerance=1e-4,
            reason=f"{POINTS} quantiles, {STEPS} Runge–Kutta steps",
        ),
        state(
            id="guidance-gaussian",
            equations="(7)",
            claim="Two Gaussians N(0, 1), N(0, 2): CFG's samples have variance a (a/b)^γ (at the "
            "ODE's start level), where the powered density has 1/((1+γ)/a − γ/b)",
            world="1-D Gaussians, γ = 1 and 3",
            deviation=max(gaussian_error(1.0, 2.0, gamma) for gamma in (1.0, 3.0)),
            tolerance=1e-6,
            reason=f"{STEPS} Runge–Kutta steps",
            figure=None,
        ),
        state(
            id="guidance-not-powered",
            equations="(7), (20)",
            claim="CFG's samples are not those of the gamma-powered density: error of the "
            f"computation (γ = 0) over the smallest distance for γ in {GAMMAS}, which is "
            f"{nearest[0]:.3f} (Wasserstein) and {nearest[1]:.3f} (Kolmogorov–Smirnov)",
            deviation=float((error / nearest).max()),
            tolerance=0.1,
            reason="the distance is at least ten times its error",
        ),
    ]


def draw(by_gamma: dict[float, Array], folder: Path) -> None:
    """Left: samples and densities at γ = 2. Right: distance by γ."""
    world, gamma = line(), 2.0
    own, every = world.classes[CLASS], world.marginal
    x = np.linspace(-2, 5, 701)
    samples = guided_samples(own, every, gamma)
    with style():
        figure, (left, right) = panels(2)
        left.hist(
            samples, bins=60, range=(-2, 5), density=True, color=COLOURS["cfg"], alpha=0.5,
            label="CFG's samples",
        )  # fmt: skip
        left.plot(
            x, powered_density(own, every, gamma, x), color=COLOURS["truth"],
            label="gamma-powered density",
        )  # fmt: skip
        left.plot(
            x, np.exp(own.log_density(x[:, None])), "--", color=COLOURS["marginal"], label="p(x|c)"
        )
        left.set(xlabel="x", ylabel="density", ylim=(0, 1.8), title=f"γ = {gamma:g}")
        left.legend(fontsize=8)
        gammas, values = list(by_gamma), np.array(list(by_gamma.values()))
        right.plot(gammas, values[:, 0], "o-", color=COLOURS["cfg"], label="Wasserstein-1")
        right.plot(gammas, values[:, 1], "s--", color=COLOURS["truth"], label="Kolmogorov–Smirnov")
        right.set(xlabel="guidance strength γ", ylabel="distance", yscale="log")
        right.set_title("Samples to powered density")
        right.legend(fontsize=8, loc="lower right")
        save(figure, folder, "guidance")
