"""Questions about the shape of a curve, or about two curves side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mclr.claims.curves import Curve, NotMeasuredError, Values, View
from mclr.claims.paired import effects_of
from mclr.claims.questions import Answer
from mclr.claims.region import ABOVE_ZERO, Region
from mclr.claims.statistics import gap_at_equal_x, spearman, turn

LEAST_POINTS = 4  # of a curve whose shape is asked for


@dataclass(frozen=True)
class Trend:
    """Whether a metric rises (sign +1) or falls (−1) along a path: Spearman's ρ times the sign."""

    metric: str
    method: str
    sign: int
    region: Region = ABOVE_ZERO

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def ask(self, view: View) -> Answer:
        curve = _shape(view, self.metric, self.method)
        rhos = curve.per_seed(self.sign * rho for rho in _rhos(curve))
        return Answer(effects_of([rhos], _first), (curve,))

    def rule(self) -> str:
        sign = "" if self.sign > 0 else "−"
        along = "γ" if self.method == "cfg" else "step"
        return f"{sign}ρ({along}, {self.metric}) of {self.method}, mean over seeds"


def _first(means: list[Values]) -> float:
    return float(means[0][0])


def _shape(view: View, metric: str, method: str) -> Curve:
    curve = view.path(metric, method)
    if len(curve.x) < LEAST_POINTS:
        raise NotMeasuredError(f"{len(curve.x)} points of {method}, a shape takes {LEAST_POINTS}")
    return curve


def _rhos(curve: Curve) -> list[float]:
    return [spearman(curve.x, column) for column in curve.values.T]


@dataclass(frozen=True)
class Turn:
    """Whether FD falls first and rises later: the smaller of both, relative to the base model's."""

    method: str
    region: Region = ABOVE_ZERO
    metrics: tuple[str, ...] = ("fd",)

    def ask(self, view: View) -> Answer:
        curve = view.path("fd", self.method)
        if len(curve.x) < LEAST_POINTS:
            raise NotMeasuredError(
                f"{len(curve.x)} points of {self.method}; it takes {LEAST_POINTS}"
            )
        bottom = int(curve.values.mean(1).argmin())

        def clearness(means: list[Values]) -> float:
            return turn(means[0], bottom)

        note = f"lowest at {'γ' if self.method == 'cfg' else 'step'} {curve.x[bottom]:g}"
        is_last = bottom == len(curve.x) - 1  # it may turn later
        note += ", the last point" if is_last else ""
        return Answer(effects_of([curve], clearness), (curve,), is_open=is_last, note=note)

    def rule(self) -> str:
        return f"fd of {self.method}: min(fall to the lowest point, rise behind it) / base"


@dataclass(frozen=True)
class Together:
    """Whether metrics move alike along two paths: the mean product of their Spearman's ρ."""

    metrics: tuple[str, ...]
    methods: tuple[str, str]
    region: Region = ABOVE_ZERO

    def ask(self, view: View) -> Answer:
        curves = [_shape(view, m, method) for m in self.metrics for method in self.methods]
        return _agreement(curves)

    def rule(self) -> str:
        a, b = self.methods
        return f"mean over {', '.join(self.metrics)} of ρ({a}) · ρ({b})"


@dataclass(frozen=True)
class AcrossNets:
    """Whether every other feature net sees the same trends along a path, as ``Together``."""

    metrics: tuple[str, ...]
    method: str
    region: Region = ABOVE_ZERO

    def ask(self, view: View) -> Answer:
        others = [view.seen_with(net) for net in view.nets if net != view.features]
        if not others:
            raise NotMeasuredError("there is one feature net")
        pairs = [(view, other, metric) for other in others for metric in self.metrics]
        return _agreement(
            [_shape(v, metric, self.method) for a, b, metric in pairs for v in (a, b)]
        )

    def rule(self) -> str:
        return f"mean over {', '.join(self.metrics)} of ρ(one net) · ρ(another), {self.method}"


def _agreement(curves: list[Curve]) -> Answer:
    """The mean product of the ρ of the first and second, third and fourth, … curve."""
    rhos = [curve.per_seed(_rhos(curve)) for curve in curves]

    def agreement(means: list[Values]) -> float:
        values = [float(mean[0]) for mean in means]
        return float(np.mean([a * b for a, b in zip(values[::2], values[1::2], strict=True)]))

    return Answer(effects_of(rhos, agreement), tuple(curves))


@dataclass(frozen=True)
class AtEqual:
    """y of the left path minus y of the right one at equal x, the mean over the left's points."""

    x: str
    y: str
    left: str
    right: str
    region: Region
    high: bool = False
    relative: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.x, self.y)

    def ask(self, view: View) -> Answer:
        curves = [view.path(m, method) for method in (self.left, self.right) for m in self.metrics]

        def gap(means: list[Values]) -> float:
            x, y, other_x, other_y = means
            # The first point is the base model, where both paths begin.
            found = gap_at_equal_x(x[1:], y[1:], other_x, other_y, self.high)
            return found / float(np.abs(other_y).mean()) if self.relative else found

        effects = effects_of(curves, gap)
        if math.isnan(effects.mean):
            raise NotMeasuredError(f"no point of {self.left} within the range of {self.right}")
        return Answer(effects, tuple(curves))

    def rule(self) -> str:
        half = f", {self.x} in the upper half of {self.right}'s" if self.high else ""
        scale = f", relative to {self.right}'s mean" if self.relative else ""
        return f"{self.y}({self.left}) − {self.y}({self.right}) at equal {self.x}{half}{scale}"
