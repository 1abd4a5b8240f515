"""CC-DPO and CCA on tables: their objectives, and the closed forms of their optima.

Every objective here sees only log p_θ / p_ref, so tables are found by their logarithms.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_softmax, logsumexp

from mclr.theory.lab.optimise import Expansion, maximise_on_simplex, minimise
from mclr.theory.lab.tables_mclr import independent
from mclr.theory.lab.tabular import Array, World


# Eqs. (19), (80): one class c.
def pair_loss(world: World, c: int, beta: float, log_ref: Array, partners: Array) -> Expansion:
    """The expected loss of class c at log p_θ(·|c), up to a shift that it cannot see.

    Args:
        log_ref: log p_ref(·|c), shape (N,).
        partners: P(c̃|c), shape (M, M).
    """
    pairs = sum(
        chance * np.outer(world.conditional[c], world.conditional[other])
        for other, chance in enumerate(partners[c])
    )

    def expand(log_p: Array) -> tuple[float, Array, Array]:
        reward = beta * (log_p - log_ref)
        margin = reward[:, None] - reward[None, :]
        value = float((pairs * np.logaddexp(0, -margin)).sum())
        slope = -beta * pairs * expit(-margin)
        bend = beta**2 * pairs * expit(margin) * expit(-margin)
        bend = bend + bend.T
        return value, slope.sum(1) - slope.sum(0), np.diag(bend.sum(1)) - bend

    return expand


def ccdpo_optimum(
    world: World, beta: float, reference: Array, partners: Array | None = None
) -> Array:
    """log p_θ(x|c) of the table that minimises (19), computed without Theorem 2; shape (M, N).

    Args:
        reference: p_ref(x|c) > 0, shape (M, N).
        partners: P(c̃|c), by default drawn apart from c.
    """
    chosen = independent(world.prior) if partners is None else partners
    log_ref = np.log(reference)
    rows = [
        minimise(pair_loss(world, c, beta, log_ref[c], chosen), log_ref[c])
        for c in range(len(world.prior))
    ]
    return np.asarray(log_softmax(np.array(rows), axis=1))


# Eq. (95), without its constant.
def log_ratio(world: World, opponent: Array | None = None) -> Array:
    """log p(x|c) / p(x), shape (M, N); or against another ``opponent`` of that shape."""
    return np.asarray(
        np.log(world.conditional) - np.log(world.marginal if opponent is None else opponent)
    )


# Eqs. (20), (118): log of p_ref (p(x|c) / p(x))^(1/β) λ^(−1/β), not normalised.
def powered(world: World, beta: float, reference: Array, strength: float | Array = 1.0) -> Array:
    """log of the gamma-powered density for λ = ``strength``, shape (M, N)."""
    return np.log(reference) + (log_ratio(world) - np.log(strength)) / beta


# Eq. (119)
def normalising_strength(world: World, beta: float, reference: Array) -> Array:
    """The λ(c) that makes (118) sum to 1, shape (M,)."""
    return np.asarray(np.exp(beta * logsumexp(powered(world, beta, reference), axis=1)))


# Eq. (116), and (111) at λ = 1: one class c.
def cca_loss(world: World, c: int, beta: float, log_ref: Array, strength: float) -> Expansion:
    """Minus the objective of class c at log p_θ(·|c), which need not be normalised."""
    own, others = world.conditional[c], strength * world.marginal

    def expand(log_p: Array) -> tuple[float, Array, Array]:
        reward = beta * (log_p - log_ref)
        value = own @ np.logaddexp(0, -reward) + others @ np.logaddexp(0, reward)
        slope = beta * (others * expit(reward) - own * expit(-reward))
        bend = beta**2 * (own + others) * expit(reward) * expit(-reward)
        return float(value), slope, np.diag(bend)

    return expand


def cca_optimum(world: World, beta: float, reference: Array, strength: float) -> Array:
    """log of the table, not normalised, that maximises (116), without (118); shape (M, N)."""
    log_ref = np.log(reference)
    rows = [
        minimise(cca_loss(world, c, beta, log_ref[c], strength), log_ref[c])
        for c in range(len(world.prior))
    ]
    return np.array(rows)


def cca_best_distribution(
    world: World, c: int, beta: float, reference: Array, strength: float
) -> Array:
    """The distribution p_θ(·|c) that maximises (116), shape (N,).

    Among distributions (116) is not concave where λ is large, so that trades climb from the base
    model and from each point, and the best of the tops is taken.
    """
    own, others, ref = (
        row.tolist() for row in (world.conditional[c], strength * world.marginal, reference[c])
    )

    def slope(i: int, p: float) -> float:
        power = (p / ref[i]) ** beta
        return float(beta / p * (own[i] - others[i] * power) / (1 + power))

    floor = np.full(len(ref), 1e-12)
    loss = cca_loss(world, c, beta, np.log(reference[c]), strength)
    starts = [reference[c], *(0.9 * np.eye(len(ref)) + 0.1 / len(ref))]
    tops = [maximise_on_simplex(slope, floor, start, still=1e-12) for start in starts]
    return min(tops, key=lambda top: loss(np.log(top))[0])
