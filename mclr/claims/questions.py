"""What claims ask: an answer for one model and one feature net; here, comparisons of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mclr.claims.curves import Curve, NotMeasuredError, Values, View
from mclr.claims.paired import Effects, effects_of
from mclr.claims.region import ANY, Region
from mclr.claims.statistics import (
    CurveStatistic,
    average,
    collapse,
    detour,
    highest,
    last,
    lowest,
    only,
    width,
)

LOWER_IS_BETTER = ("fd",)


@dataclass(frozen=True)
class Answer:
    """What was found: the effects that the claim's region judges, seed by seed.

    ``relative``: the same as a share of the right side, where there is one. ``exact``: counted, so
    no chance takes part. ``is_open``: more of the curve may turn it.
    """

    found: Effects
    curves: tuple[Curve, ...]
    relative: Effects | None = None
    exact: bool = False
    is_open: bool = False
    note: str = ""

    @property
    def effect(self) -> float:
        return self.found.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        return self.found.interval


class Question(Protocol):
    """Something to be measured, and the effects that the claim allows."""

    @property
    def region(self) -> Region: ...

    @property
    def metrics(self) -> tuple[str, ...]: ...

    def ask(self, view: View) -> Answer:
        """The answer; NotMeasuredError if rows are missing."""

    def rule(self) -> str:
        """What is computed, in words."""


@dataclass(frozen=True)
class Quantity:
    """One side of a comparison: a statistic of the curves of one or several methods.

    ``at`` names a hyperparameter, and the position of its value (0 smallest, −1 largest): the
    curve of that value is meant; ``alike``: within one sweep, in which all else is alike. Of
    several methods the better one counts.
    """

    statistic: str
    methods: tuple[str, ...]
    at: tuple[str, int] | None = None
    alike: bool = False

    def curves(self, view: View, metric: str) -> list[Curve]:
        if self.at:
            key, position = self.at
            if self.alike:
                (method,) = self.methods
                return [list(view.alike(metric, method, key).values())[position]]
            return [list(view.sweep(metric, self.methods, key).values())[position]]
        look = view.at_table if self.statistic == "table" else view.path
        return [look(metric, method) for method in self.methods]

    def value(self, means: Sequence[Values], metric: str) -> float:
        lower = metric in LOWER_IS_BETTER
        statistic = _STATISTICS[self.statistic] or (lowest if lower else highest)
        values = [statistic(mean) for mean in means]
        return min(values) if lower else max(values)

    def words(self) -> str:
        place = "" if not self.at else f" at the {_ENDS[self.at[1]]} {self.at[0]}"
        return f"{_WORDS[self.statistic]}({' or '.join(self.methods)}{place})"


_STATISTICS: dict[str, CurveStatistic | None] = {
    "table": only,
    "best": None,
    "last": last,
    "width": width,
    "average": average,
    "detour": detour,
    "collapse": collapse,
}
_WORDS = {
    "table": "Table 1",
    "best": "best",
    "last": "last checkpoint",
    "width": "range",
    "average": "mean over shared checkpoints",
    "detour": "zigzag",
    "collapse": "last / lowest − 1",
}
_ENDS = {0: "smallest", -1: "largest"}


@dataclass(frozen=True)
class Difference:
    """left − right of one metric; ``relative``: its share of right is what is judged."""

    metric: str
    left: Quantity
    right: Quantity
    region: Region
    relative: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def ask(self, view: View) -> Answer:
        left, right = self.left.curves(view, self.metric), self.right.curves(view, self.metric)
        if self.left.statistic == "average":
            left, right = _shared([*left, *right])
        curves, n = [*left, *right], len(left)

        def both(means: list[Values]) -> tuple[float, float]:
            return (
                self.left.value(means[:n], self.metric),
                self.right.value(means[n:], self.metric),
            )

        def difference(means: list[Values]) -> float:
            a, b = both(means)
            return a - b

        def share(means: list[Values]) -> float:
            a, b = both(means)
            return (a - b) / abs(b) if b else math.nan

        plain, ratio = effects_of(curves, difference), effects_of(curves, share)
        return Answer(ratio if self.relative else plain, tuple(curves), ratio)

    @property
    def tabled(self) -> tuple[str, ...]:
        """The methods whose rows of Table 1 it compares."""
        sides = (self.left, self.right)
        return tuple(m for side in sides if side.statistic == "table" for m in side.methods)

    def rule(self) -> str:
        scale = ", relative" if self.relative else ""
        return f"{self.metric}: {self.left.words()} − {self.right.words()}{scale}"


def _shared(curves: list[Curve]) -> tuple[list[Curve], list[Curve]]:
    """Two curves at the points that both have."""
    a, b = curves
    common = np.intersect1d(a.x, b.x)
    if len(common) < 2:
        raise NotMeasuredError("no checkpoint that both methods have")
    cut = [
        replace(curve, x=common, values=curve.values[np.isin(curve.x, common)]) for curve in (a, b)
    ]
    return [cut[0]], [cut[1]]


@dataclass(frozen=True)
class Spread:
    """How much the best value depends on one hyperparameter: (largest − smallest) / smallest."""

    metric: str
    method: str
    key: str
    region: Region

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def ask(self, view: View) -> Answer:
        curves = list(view.sweep(self.metric, (self.method,), self.key).values())
        best = lowest if self.metric in LOWER_IS_BETTER else highest

        def spread(means: list[Values]) -> float:
            values = [best(mean) for mean in means]
            return max(values) / min(values) - 1

        return Answer(effects_of(curves, spread), tuple(curves))

    def rule(self) -> str:
        return f"{self.metric} of {self.method}: largest / smallest best value over {self.key} − 1"


@dataclass(frozen=True)
class EveryValue:
    """Whether every value of a hyperparameter is worse than its smallest one, best against best.

    The effect is that of the value which is worse by the least.
    """

    metric: str
    methods: tuple[str, ...]
    key: str
    region: Region

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def ask(self, view: View) -> Answer:
        curves = list(view.sweep(self.metric, self.methods, self.key).values())
        lower = self.metric in LOWER_IS_BETTER
        best, least = (lowest, min) if lower else (highest, max)

        def nearest(means: list[Values]) -> float:
            first, *others = [best(mean) for mean in means]
            return least(other - first for other in others)

        return Answer(effects_of(curves, nearest), tuple(curves))

    def rule(self) -> str:
        words = "smallest" if self.metric in LOWER_IS_BETTER else "largest"
        return (
            f"{self.metric}: {words} of best({' or '.join(self.methods)} at each larger {self.key})"
            f" − best at the smallest"
        )


@dataclass(frozen=True)
class Cost:
    """The ratio of network evaluations of two rows of Table 1: counted, so exact."""

    left: str
    right: str
    region: Region
    metrics: tuple[str, ...] = ("nfe",)

    def ask(self, view: View) -> Answer:
        curves = tuple(view.at_table("nfe", method) for method in (self.left, self.right))
        ratio = effects_of(curves, lambda means: float(means[0][0] / means[1][0]))
        return Answer(ratio, curves, exact=True)

    def rule(self) -> str:
        return f"nfe({self.left}) / nfe({self.right})"


@dataclass(frozen=True)
class Elsewhere:
    """A claim that no column of metrics.parquet can answer; ``where`` says what does."""

    where: str
    region: Region = ANY
    metrics: tuple[str, ...] = ()

    def ask(self, view: View) -> Answer:
        raise NotMeasuredError(self.where)

    def rule(self) -> str:
        return "not a question of metrics.parquet"
