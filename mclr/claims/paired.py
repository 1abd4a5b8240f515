"""Effects seed by seed: their t interval, the exact sign-flip test, and what they could show.

A pair is two rows of the same seed: the same training seed and the same image noise. The effect
of each seed is one number; the tests are those of one sample of such numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from mclr.claims.curves import Curve, Values

CONFIDENCE = 0.95
POWER = 0.8  # usual (Cohen 1988); of the smallest effect that is called detectable
LEAST_SEEDS = 3  # ours: fewer are an observation
EXACT_SEEDS = 16  # sign flips of so many are all tried; of more, some
FLIPS = 2**EXACT_SEEDS
DECIMALS = 12  # rounding errors beyond decide nothing: a difference of 0 is 0
SEED = 0  # of the sign flips of many seeds

Statistic = Callable[[list[Values]], float]
"""(each curve on one seed, (P,)) -> the effect."""


@dataclass(frozen=True)
class Effects:
    """The effect on each seed, and their mean.

    ``values`` is empty where the sides have no seed in common; then ``mean`` compares their means.
    """

    mean: float
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; 0 with one seed."""
        return round(float(np.std(self.values, ddof=1)), DECIMALS) if self.n > 1 else 0.0

    @property
    def has_spread(self) -> bool:
        """Whether seeds differ: without a spread there is nothing to take a t from."""
        return self.n > 1 and self.spread > 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's t: mean ± t(n − 1) · s / √n; None with one seed, or without a spread."""
        if not self.has_spread:
            return None
        found = stats.ttest_1samp(self.values, 0.0).confidence_interval(CONFIDENCE)
        return round(float(found.low), DECIMALS), round(float(found.high), DECIMALS)

    def p_t(self, value: float) -> float:
        """Two-sided p of the hypothesis that the true mean is ``value``, by Student's t.

        Where all seeds have the same effect, that of the sign flips.
        """
        if not self.has_spread:
            return self.p_signs(value)
        return float(stats.ttest_1samp(self.values, value).pvalue)

    def p_signs(self, value: float) -> float:
        """The same by flipping signs, which asks for symmetry alone, not for a normal distribution.

        All 2ⁿ sign patterns are tried, so p is at least 2 / 2ⁿ: 0.25 with three seeds, 0.0625 with
        five, and below 0.05 only from six on.
        """
        differences = np.round(np.array(self.values) - value, DECIMALS)
        if self.n < 2 or not differences.any():
            return 1.0
        found = stats.permutation_test(
            (differences,),
            lambda x, axis: np.mean(x, axis=axis),
            permutation_type="samples",
            n_resamples=np.inf if self.n <= EXACT_SEEDS else FLIPS,
            rng=SEED,
        )
        return float(found.pvalue)

    @property
    def detectable(self) -> float | None:
        """The smallest true effect that so many seeds of this spread find, with ``POWER``.

        As a distance from the value that is tested; None without a spread, or of too few seeds.
        """
        is_known = self.has_spread and self.n >= LEAST_SEEDS
        return smallest_effect(self.n) * self.spread if is_known else None


def effects_of(curves: Sequence[Curve], statistic: Statistic) -> Effects:
    """The statistic on each seed that all curves have, where it is finite, and its mean.

    Without a common seed, and where no seed gives a number, the statistic of the means over seeds.
    """
    common = sorted(set.intersection(*(set(curve.seeds) for curve in curves)))
    found = [
        statistic([curve.values[:, curve.seeds.index(seed)] for curve in curves]) for seed in common
    ]
    values = tuple(round(value, DECIMALS) for value in found if math.isfinite(value))
    if not values:
        return Effects(round(statistic([c.values.mean(1) for c in curves]), DECIMALS), ())
    return Effects(round(float(np.mean(values)), DECIMALS), values)


# Power of the two-sided t test: T is noncentral t with n − 1 degrees of freedom, δ = √n · d.
@lru_cache(maxsize=64)
def smallest_effect(n: int) -> float:
    """The effect in standard deviations that a t test of n ≥ 3 numbers finds with ``POWER``."""
    t = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)

    def missing(shift: float) -> float:
        noncentral = stats.nct(n - 1, shift)
        # SciPy has no number for the far tail, whose share is none.
        return float(noncentral.sf(t) + np.nan_to_num(noncentral.cdf(-t))) - POWER

    return float(brentq(missing, 0.1, 8.0)) / math.sqrt(n)
