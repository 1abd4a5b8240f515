"""Numbers that describe a curve: each takes the mean over seeds at the points, in their order."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import spearmanr

from mclr.claims.curves import Values

CurveStatistic = Callable[[Values], float]


def only(y: Values) -> float:
    """The value of a single point."""
    return float(y[0])


def lowest(y: Values) -> float:
    """The lowest value of a curve."""
    return float(y.min())


def highest(y: Values) -> float:
    """The highest value of a curve."""
    return float(y.max())


def last(y: Values) -> float:
    """The value at the last point."""
    return float(y[-1])


def width(y: Values) -> float:
    """The range that a curve passes through."""
    return float(y.max() - y.min())


def average(y: Values) -> float:
    """The mean over the points behind the first, the base model."""
    return float(y[1:].mean())


def detour(y: Values) -> float:
    """Zigzag: the share of the way that is taken back, 1 − |net change| / Σ |changes|."""
    way = float(np.abs(np.diff(y)).sum())
    return 1 - abs(float(y[-1] - y[0])) / way if way else 0.0


def collapse(y: Values) -> float:
    """How far a metric that should be low has risen from its lowest value: last / lowest − 1."""
    return float(y[-1] / y.min() - 1)


def spearman(x: Values, y: Values) -> float:
    """Spearman's rank correlation; 0 for a constant."""
    if len(set(y.tolist())) < 2:
        return 0.0
    return float(spearmanr(x, y).statistic)


def turn(y: Values, bottom: int) -> float:
    """How clearly a curve falls to the point ``bottom`` and rises behind it.

    The smaller of the fall and the rise, relative to the first value: not above 0 if either is
    absent, as it is when the lowest point is the first or the last.
    """
    return float(min(y[0] - y[bottom], y[-1] - y[bottom]) / y[0])


def gap_at_equal_x(
    x: Values, y: Values, other_x: Values, other_y: Values, high: bool = False
) -> float:
    """Mean of y minus the other curve's y at equal x, over the points within the other's range.

    The other curve is interpolated linearly between its points. With ``high`` only points in the
    upper half of its range count; NaN if none does.
    """
    order = np.argsort(other_x, kind="stable")
    low, top = float(other_x.min()), float(other_x.max())
    low = (low + top) / 2 if high else low
    inside = (x >= low) & (x <= top)
    if not inside.any():
        return math.nan
    return float(np.mean(y[inside] - np.interp(x[inside], other_x[order], other_y[order])))
