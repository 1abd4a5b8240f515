"""Verdicts, and the effects that a claim allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
INCONCLUSIVE, OBSERVATION, NOT_MEASURED = "inconclusive", "observation", "not measured"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, OBSERVATION, NOT_MEASURED)


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

    def p_value(self, effect: float, p_at: Callable[[float], float]) -> float:
        """The level at which an interval around the effect just touches an end of the region.

        Within the region both ends must be excluded (two one-sided tests: the larger p counts),
        outside it the end that the effect lies beyond.

        Args:
            p_at: two-sided p value of the hypothesis that the true effect is this number.
        """
        if self.holds(effect):
            return max(p_at(end) for end in (self.low, self.high) if math.isfinite(end))
        return p_at(self.low if effect <= self.low else self.high)

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
