"""MCLR on tables: its objective, and the closed form of its optimum, Eqs. (10)-(17)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from mclr.theory.lab.optimise import maximise_on_simplex
from mclr.theory.lab.tabular import Array, World

Objective = Callable[[Array], float]
"""A value of log p_θ(x|c), shape (M, N)."""


def independent(prior: Array) -> Array:
    """P(c̃|c) of two classes drawn apart from each other, shape (M, M)."""
    return np.tile(prior, (len(prior), 1))


def other_classes(prior: Array) -> Array:
    """P(c̃|c) where c̃ is drawn from the classes other than c, shape (M, M)."""
    table = independent(prior) * (1 - np.eye(len(prior)))
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def _log_likelihood(world: World, log_p: Array) -> float:
    """E_c E_{x~p(x|c)} log p_θ(x|c)."""
    return float((world.prior[:, None] * world.conditional * log_p).sum())


def regularizer(world: World, log_p: Array, partners: Array) -> float:
    """E_{c, c̃, x~p(x|c)} log p_θ(x|c) / p_θ(x|c̃), the second term of (11), class by class."""
    total = 0.0
    for c, p_c in enumerate(world.prior):
        for other, p_other in enumerate(partners[c]):
            total += p_c * p_other * world.conditional[c] @ (log_p[c] - log_p[other])
    return float(total)


# Eq. (10): both members of a pair of classes keep to their own side.
def form_10(world: World, log_p: Array, eta: float) -> float:
    """MCLR on a table log p_θ(x|c), shape (M, N)."""
    total = 0.0
    p = world.conditional
    for c, p_c in enumerate(world.prior):
        for other, p_other in enumerate(world.prior):
            ratio = log_p[c] - log_p[other]
            total += p_c * p_other * (p[c] @ ratio - p[other] @ ratio)
    return _log_likelihood(world, log_p) + eta / 2 * float(total)


# Eq. (11)
def form_11(world: World, log_p: Array, eta: float, partners: Array | None = None) -> float:
    """MCLR; ``partners`` is P(c̃|c), by default drawn apart from c."""
    chosen = independent(world.prior) if partners is None else partners
    return _log_likelihood(world, log_p) + eta * regularizer(world, log_p, chosen)


# Eq. (12): one class, two samples.
def form_12(world: World, log_p: Array, eta: float) -> float:
    """MCLR, with y drawn from p(x)."""
    contrast = 0.0
    for c, p_c in enumerate(world.prior):
        contrast += p_c * (world.conditional[c] @ log_p[c] - world.marginal @ log_p[c])
    return _log_likelihood(world, log_p) + eta * float(contrast)


# Before Eq. (14)
def h(world: World, eta: float) -> Array:
    """h(x|c) = p(x|c) + η (p(x|c) − p(x)), shape (M, N)."""
    return world.conditional + eta * (world.conditional - world.marginal)


# Eq. (16)
def floored(h_c: Array, floor: Array) -> Array:
    """max{h/Z, δ} of one class, with the Z that makes it sum to 1, shape (N,)."""

    def excess(log_z: float) -> float:
        return float(np.maximum(h_c / np.exp(log_z), floor).sum()) - 1

    z = np.exp(brentq(excess, -20.0, 20.0, xtol=1e-16))
    return np.asarray(np.maximum(h_c / z, floor))


# Eq. (17)
def truncated(h_c: Array) -> Array:
    """h⁺ / ∫h⁺, over the last axis."""
    positive = np.maximum(h_c, 0)
    return np.asarray(positive / positive.sum(axis=-1, keepdims=True))


def coefficients(objective: Objective, shape: tuple[int, ...]) -> Array:
    """Weight of each log p_θ(x|c) in an objective linear in them, found by unit tables.

    The units are large, so that a constant does not round the weights of rare classes away.
    """
    size = 2.0**60
    nothing = objective(np.zeros(shape))
    units = size * np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.array([objective(unit) - nothing for unit in units]).reshape(shape) / size


def maximise(objective: Objective, world: World, floor: Array) -> Array:
    """The table p_θ(x|c) ≥ floor of the largest objective, shape (M, N), by pairwise trades.

    Uses nothing but values of the objective, which must be linear in log p_θ.
    """
    rows = []
    for row in coefficients(objective, world.conditional.shape).tolist():

        def slope(i: int, p: float, row: list[float] = row) -> float:
            return row[i] / p if row[i] else 0.0

        rows.append(maximise_on_simplex(slope, floor, np.full(len(row), 1 / len(row))))
    return np.array(rows)


def optimum(world: World, eta: float, floor: Array, partners: Array | None = None) -> Array:
    """The table that maximises (11), computed without Theorem 1."""
    return maximise(lambda log_p: form_11(world, log_p, eta, partners), world, floor)


# Eq. (13)
def form_13(world: World, log_p: Array, eta: float, reference: Array) -> float:
    """Fine-tuning: KL to the base model p_ref(x|c), shape (M, N), and the regularizer of (11)."""
    prior = world.prior
    log_reference = np.log(np.where(reference > 0, reference, 1.0))
    kept = sum(prior[c] * reference[c] @ (log_p[c] - log_reference[c]) for c in range(len(prior)))
    return float(kept) + eta * regularizer(world, log_p, independent(prior))


def fine_tuned(world: World, eta: float, reference: Array, floor: Array) -> Array:
    """The table that maximises (13), computed without Corollary 1."""
    return maximise(lambda log_p: form_13(world, log_p, eta, reference), world, floor)
