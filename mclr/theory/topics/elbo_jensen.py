"""The Jensen bounds (156), (159): what estimating the ELBO with few draws adds to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit

from mclr.theory.lab.mixtures import Array, Mixture, line, mix
from mclr.theory.lab.statement import Statement

DRAWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REPEATS, PAIRS, BETA, LAMBDA = 4000, 16, 0.5, 1.0
P_MEAN, P_STD, SIGMA_DATA = -0.4, 1.0, 0.5


@dataclass(frozen=True, eq=False)
class Curve:
    """Bias by number of draws (M,), and M · bias as M grows, for a loss to minimise."""

    draws: Array
    bias: Array
    limit: float
    smallest: float
    """Of the one-draw biases of all single pairs, by quadrature."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """One draw (σ, ε) as a table: nodes (D, 1) of both and masses (D,)."""

    sigma: Array
    epsilon: Array
    mass: Array


def nodes() -> Nodes:
    """ln σ ~ N(P_mean, P_std²) and ε ~ N(0, 1), by Gauss–Hermite."""
    u, v = np.polynomial.hermite_e.hermegauss(31)
    sigma, epsilon = np.meshgrid(np.exp(P_MEAN + P_STD * u), u, indexing="ij")
    mass = np.outer(v, v).ravel()
    return Nodes(sigma.reshape(-1, 1), epsilon.reshape(-1, 1), mass / mass.sum())


# w(σ) Δ(x, σ, ε, c): Eq. (154) times its weight
def weighted_delta(model: Mixture, reference: Mixture, x: Array, at: Nodes) -> Array:
    """At each node for each x (P, 1): (P, D)."""
    w = (at.sigma**2 + SIGMA_DATA**2) / (at.sigma * SIGMA_DATA) ** 2
    rows = []
    for point in x:
        y, sigma = point + at.sigma * at.epsilon, at.sigma[:, 0]
        own, ref = (((point - p.denoise(y, sigma)) ** 2).sum(1) for p in (model, reference))
        rows.append(w[:, 0] * (own - ref))
    return np.stack(rows)


def log_sigmoid(z: Array) -> Array:
    """log Sigmoid(z)."""
    return -np.logaddexp(0.0, -z)


def bias(Z: Array, mass: Array, M: int, rng: np.random.Generator) -> Array:
    """E[−log σ(mean of M draws of Z)] + log σ(E Z) for rows Z (P, D): (P,).

    The part linear in the mean has expectation 0 and is left out, which quiets the estimate.
    """
    mean = Z @ mass
    if M == 1:
        return np.asarray(-log_sigmoid(Z) @ mass + log_sigmoid(mean))
    drawn = rng.choice(len(mass), size=(REPEATS, M), p=mass)
    found = []
    for row, centre in zip(Z, mean, strict=True):
        off = row[drawn].mean(1) - centre
        curve = -log_sigmoid(centre + off) + log_sigmoid(centre) + expit(-centre) * off
        found.append(curve.mean())
    return np.array(found)


# Second-order expansion: bias ≈ σ(m) σ(−m) Var Z / (2M)
def limit(Z: Array, mass: Array) -> Array:
    """M · bias as M grows: (P,)."""
    mean = Z @ mass
    variance = ((Z - mean[:, None]) ** 2) @ mass
    return np.asarray(expit(mean) * expit(-mean) * variance / 2)


def _curve(terms: tuple[tuple[float, Array], ...], mass: Array) -> Curve:
    rng = np.random.default_rng(5)
    values = [float(sum(scale * bias(Z, mass, M, rng).mean() for scale, Z in terms)) for M in DRAWS]
    single = [bias(Z, mass, 1, rng).min() for _, Z in terms]
    end = float(sum(scale * limit(Z, mass).mean() for scale, Z in terms))
    return Curve(np.array(DRAWS, float), np.array(values), end, float(min(single)))


def curve() -> tuple[Curve, Curve]:
    """Biases of (156) against (155), and of (159) against (158) with its sign turned."""
    world, at = line(), nodes()
    own, other = world.classes[1], world.classes[0]
    reference = mix(np.array([0.6, 0.4]), (own, world.marginal))
    rng = np.random.default_rng(4)
    win = BETA * weighted_delta(own, reference, own.sample(PAIRS, rng), at)
    lose = BETA * weighted_delta(own, reference, other.sample(PAIRS, rng), at)
    # Preferred and other sample share their draw (σ, ε), as in (156).
    return (
        _curve(((1.0, lose - win),), at.mass),
        _curve(((1.0, -win), (LAMBDA, lose)), at.mass),
    )


def statements(curves: tuple[Curve, Curve]) -> list[Statement]:
    """Sign of the bounds, and their decay."""
    world = f"{line().name}; p_ref with 40 % leakage, β = {BETA}, EDM2's w(σ), p(σ)"
    state = partial(Statement, title="Appendix E.1", world=world, figure="elbo")
    found = []
    for name, paper, one in zip(
        ("ccdpo", "cca"), ("(155), (156)", "(158), (159)"), curves, strict=True
    ):
        bound = "upper bound of the loss" if name == "ccdpo" else "lower bound of the objective"
        found += [
            state(
                id=f"elbo-jensen-{name}",
                equations=paper,
                claim=f"The one-draw form is an {bound} for every pair"
                if name == "ccdpo"
                else f"The one-draw form is a {bound} for every sample",
                deviation=max(0.0, -one.smallest),
                tolerance=1e-12,
                reason="Gauss–Hermite sums in float64; Jensen holds for the sums themselves",
            ),
            state(
                id=f"elbo-jensen-{name}-draws",
                equations=paper,
                claim=f"The bias of the one-draw form ({one.bias[0]:.2g} at one draw) "
                "falls to 0 as 1/M with M draws: "
                f"M · bias at {DRAWS[-1]} draws beside σ(m)σ(−m) Var/2",
                deviation=abs(DRAWS[-1] * one.bias[-1] / one.limit - 1),
                tolerance=0.1,
                reason=f"{REPEATS} repeats and the next term, of relative size 1/M times moments",
            ),
        ]
    return found
