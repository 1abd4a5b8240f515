"""Intervals by bootstrap over seeds, and the one rule that turns an interval into a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mclr.claims.curves import Curve, Values

DRAWS = 10_000
NOISE_DRAWS = 1_000  # of curves of one seed; each draw is computed
CONFIDENCE = 0.95
DECIMALS = 12  # rounding errors beyond decide nothing: a difference of 0 is 0
SEED = 0  # of the bootstrap: the same rows give the same intervals

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
INCONCLUSIVE, NOT_MEASURED = "inconclusive", "not measured"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_MEASURED)

Statistic = Callable[[list[Values]], float]
"""(mean over seeds of each curve, (P,)) -> the effect."""


@dataclass(frozen=True)
class Region:
    """The effects that a claim allows: low to high, the ends included unless ``is_open``."""

    low: float = -math.inf
    high: float = math.inf
    is_open: bool = False

    def holds(self, value: float) -> bool:
        if self.is_open:
            return self.low < value < self.high
        return self.low <= value <= self.high

    def verdict(self, low: float, high: float) -> str:
        """Supported: the interval lies inside. Not supported: it lies outside, all of it."""
        if self.holds(low) and self.holds(high):
            return SUPPORTED
        below = high <= self.low if self.is_open else high < self.low
        above = low >= self.high if self.is_open else low > self.high
        return NOT_SUPPORTED if below or above else INCONCLUSIVE

    def words(self, percent: bool = False) -> str:
        """As text: ``< 0``, ``≥ 0.5``, ``within ±10 %``."""

        def number(value: float) -> str:
            return f"{100 * value:g} %" if percent and value else f"{value:g}".replace("-", "−")

        if math.isinf(self.low) and math.isinf(self.high):
            return ""
        if math.isinf(self.low):
            return f"{'<' if self.is_open else '≤'} {number(self.high)}"
        if math.isinf(self.high):
            return f"{'>' if self.is_open else '≥'} {number(self.low)}"
        return f"within ±{number(self.high)}"


ABOVE_ZERO = Region(low=0, is_open=True)
ANY = Region()


def effect_of(curves: Sequence[Curve], statistic: Statistic) -> float:
    """The effect as measured: the statistic of the means over all seeds."""
    return round(statistic([curve.values.mean(1) for curve in curves]), DECIMALS)


def n_seeds(curves: Sequence[Curve]) -> int:
    """The fewest seeds that any of the curves has."""
    return min(len(curve.seeds) for curve in curves)


def interval_of(curves: Sequence[Curve], statistic: Statistic) -> tuple[float, float] | None:
    """Percentile interval of the statistic over seeds drawn with replacement.

    Curves measured with the same seeds are drawn together (paired), others independently. Draws
    that have no finite effect are left out. If a curve has one seed, the spread over the final
    seeds takes the place of its own, see ``_borrowed``; None if that is unknown too.
    """
    if n_seeds(curves) < 2:
        return _borrowed(curves, statistic)
    weights = {curve.seeds: _weights(curve.seeds) for curve in curves}
    # A few seeds have few different resamples: each is computed once.
    stacked = np.concatenate(list(weights.values()))
    distinct, index = np.unique(stacked, axis=1, return_inverse=True)
    ends = np.cumsum([len(seeds) for seeds in weights])
    parts = dict(zip(weights, np.split(distinct, ends[:-1]), strict=True))
    effects = [
        statistic([curve.values @ parts[curve.seeds][:, i] for curve in curves])
        for i in range(distinct.shape[1])
    ]
    return _percentiles(np.array(effects)[index.ravel()])


def _percentiles(effects: Values) -> tuple[float, float] | None:
    finite = effects[np.isfinite(effects)]
    if not len(finite):
        return None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(finite, [tail, 100 - tail])
    return round(float(low), DECIMALS), round(float(high), DECIMALS)


def _borrowed(curves: Sequence[Curve], statistic: Statistic) -> tuple[float, float] | None:
    """The interval of curves of one seed, were they as noisy as the final points.

    The noise of a curve is drawn once for all its points, and anew for each of them: the errors
    of one training run are neither equal nor independent, and the wider interval is taken. The
    draws are centred on the effect, since noise alone shifts a minimum or a maximum.
    """
    if any(curve.noise is None for curve in curves):
        return None
    effect = effect_of(curves, statistic)
    ends = []
    for shared in (True, False):
        generator = np.random.default_rng([SEED, shared])
        effects = [
            statistic([_noisy(curve, shared, generator) for curve in curves])
            for _ in range(NOISE_DRAWS)
        ]
        interval = _percentiles(np.array(effects))
        if interval is None:
            return None
        shift = effect - float(np.nanmedian(effects))
        ends.append((interval[0] + shift, interval[1] + shift))
    return min(low for low, _ in ends), max(high for _, high in ends)


def _noisy(curve: Curve, shared: bool, generator: np.random.Generator) -> Values:
    mean: Values = curve.values.mean(1)
    noise = generator.standard_normal(1 if shared else len(mean))
    return mean * (1 + (curve.noise or 0.0) * noise)


@lru_cache(maxsize=32)
def _weights(seeds: tuple[int, ...]) -> Values:
    """The share of each seed in each draw: (S, DRAWS). Equal seeds give equal draws."""
    n = len(seeds)
    generator = np.random.default_rng([SEED, *seeds])
    drawn: Values = generator.multinomial(n, np.full(n, 1 / n), DRAWS).T / n
    return drawn
