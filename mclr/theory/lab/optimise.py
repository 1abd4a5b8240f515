"""Optimisers that know nothing of the theorems they check."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from mclr.theory.lab.tabular import Array

Slope = Callable[[int, float], float]
"""Derivative of the objective by the probability of point i, where that probability is p."""
Expansion = Callable[[Array], tuple[float, Array, Array]]
"""Value, gradient (N,) and Hessian (N, N) of a loss at a vector."""

SWEEPS = 2000
NEWTON_STEPS = 500


def maximise_on_simplex(slope: Slope, floor: Array, start: Array, still: float = 1e-15) -> Array:
    """Climb a separable objective over distributions that stay above ``floor``.

    Two points at a time trade probability, as much as pays; sweeps over all pairs until none
    trades more than ``still``. Where the objective is concave this is its maximum.

    Args:
        slope: derivatives of the objective.
        floor: least probability of each point, shape (N,).
        start: a distribution above the floor, shape (N,).
    """
    p = start.copy()
    for _ in range(SWEEPS):
        moved = 0.0
        for i in range(len(p)):
            for j in range(i):
                gain = _trade(slope, i, j, p, floor)
                p[i] += gain
                p[j] -= gain
                moved = max(moved, abs(gain))
        if moved <= still:
            break
    return p


def _trade(slope: Slope, i: int, j: int, p: Array, floor: Array) -> float:
    """How much probability point i should take from point j; negative: give."""
    at_i, at_j = float(p[i]), float(p[j])
    low, high = float(floor[i]) - at_i, at_j - float(floor[j])

    def rise(amount: float) -> float:
        return slope(i, at_i + amount) - slope(j, at_j - amount)

    if rise(0.0) == 0:
        return 0.0
    if rise(0.0) > 0:
        if rise(high) >= 0:
            return high
        return float(brentq(rise, 0.0, high, xtol=1e-17, rtol=1e-15, maxiter=1000))
    if rise(low) <= 0:
        return low
    return float(brentq(rise, low, 0.0, xtol=1e-17, rtol=1e-15, maxiter=1000))


def minimise(loss: Expansion, start: Array) -> Array:
    """Newton's method with halved steps on a convex loss, until no step lowers it.

    Directions in which the loss is constant (a shift of every log-likelihood) are left alone.
    """
    z = start.copy()
    value, gradient, hessian = loss(z)
    for _ in range(NEWTON_STEPS):
        # Scaled to a unit diagonal, so that rarely visited points are solved as well as others.
        scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
        scaled = hessian * np.outer(scale, scale)
        step = -scale * np.linalg.lstsq(scaled, scale * gradient, rcond=1e-13)[0]
        share = 1.0
        while share > 1e-10:
            new = loss(z + share * step)
            if new[0] < value or np.abs(new[1]).max() < np.abs(gradient).max():
                break
            share /= 2
        else:
            return z
        z = z + share * step
        value, gradient, hessian = new
        if np.abs(step).max() < 1e-14:
            break
    return z
