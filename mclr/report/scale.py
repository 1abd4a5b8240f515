"""Axes on which nothing is squeezed: where a value is placed, and which ticks say so.

A place is what both drawing libraries are given, so that files of both kinds agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Ticks = tuple[tuple[float, str], ...]

MARGIN = 0.16  # of the length of the rest: how long the part for outliers is
REACH = 3.0  # quartile distances beyond the quartiles: further out is "far out" (Tukey)
WORTH = 1.0  # of the length of the rest: outliers that are nearer to it are not brought near
LOG_RANGE = 20.0  # an FD axis is logarithmic if its largest value is this many times its smallest
FAR = 8.0  # a step axis is logarithmic when the last step is this many times the first
MOST_TICKS = 9


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis with ticks of the library's own choice; ``note`` is said on it.

    ``breaks`` are the places where another scale begins.
    """

    log: bool = False
    note: str = ""
    ticks: Ticks = ()
    breaks: tuple[float, ...] = ()

    def place(self, value: float) -> float:
        """Where a value is drawn, in units of the axis."""
        return value


LINEAR, LOG = Scale(), Scale(log=True)


@dataclass(frozen=True)
class Steps(Scale):
    """Steps from 0: linear to the first one, then equal room for each doubling."""

    first: float = 1.0

    def place(self, value: float) -> float:
        """0 for the base model, 1 for the first step, 2 for twice as many."""
        ratio = value / self.first
        return ratio if ratio <= 1 else 1 + math.log2(ratio)


@dataclass(frozen=True)
class Squeezed(Scale):
    """Linear from ``low`` to ``high``; beyond them ``least`` and ``most`` are brought near."""

    low: float = 0.0
    high: float = 1.0
    least: float = 0.0
    most: float = 1.0

    def place(self, value: float) -> float:
        """The value itself, or a place shortly beyond the end that it passes."""
        room = MARGIN * (self.high - self.low)
        if value > self.high and self.most > self.high:
            return self.high + room * (value - self.high) / (self.most - self.high)
        if value < self.low and self.least < self.low:
            return self.low - room * (self.low - value) / (self.low - self.least)
        return value


def of_steps(values: Iterable[float]) -> Scale:
    """The scale for fine-tuning steps: linear unless they reach over several powers of two."""
    steps = sorted({value for value in values if value > 0})
    if not steps or steps[-1] < FAR * steps[0]:
        return LINEAR
    plain = Steps(first=steps[0])
    shown = _thinned([0.0, *steps], [plain.place(value) for value in (0.0, *steps)])
    ticks = tuple((plain.place(value), f"{value:g}") for value in shown)
    return Steps(note="logarithmic", ticks=ticks, first=steps[0])


def _thinned(values: Sequence[float], places: Sequence[float]) -> list[float]:
    """Values whose places leave room for a label between them."""
    gap, kept, last = (places[-1] - places[0]) / MOST_TICKS, [], -math.inf
    for value, place in zip(values, places, strict=True):
        if place - last >= gap:
            kept.append(value)
            last = place
    return kept


def of_metric(made: Iterable[float], real: Iterable[float] = (), log: bool = False) -> Scale:
    """The scale for a metric: linear; compressed beyond the rest where few values lie far out.

    made: values of models. real: levels of real images, which do not tell what is usual.
    log: whether values that are far apart all the same get a logarithmic axis.
    """
    values = np.array([value for value in made if math.isfinite(value)])
    levels = [value for value in real if math.isfinite(value)]
    if len(values) == 0:
        return LINEAR
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = REACH * (upper - lower)
    usual = values[(values >= lower - reach) & (values <= upper + reach)]
    low, high = float(usual.min()), float(usual.max())
    if log and low > 0 and high > LOG_RANGE * low:
        return LOG
    least, most = (float(f([*values, *levels])) for f in (min, max))
    near = WORTH * (high - low)
    low, high = (least if low - least < near else low), (most if most - high < near else high)
    return (
        LINEAR if near == 0 or (low, high) == (least, most) else _squeezed(low, high, least, most)
    )


def _squeezed(low: float, high: float, least: float, most: float) -> Scale:
    room = 0.05 * (high - low)
    low, high = max(low - room, least), min(high + room, most)
    plain = Squeezed(low=low, high=high, least=least, most=most)
    inner = nice(low, high)
    ticks = [(value, f"{value:g}") for value in inner]
    breaks = []
    for end, beyond in ((low, least), (high, most)):
        if beyond != end:
            ticks.append((plain.place(beyond), f"{beyond:.3g}"))
            breaks.append(end)
    if len(breaks) > 1:
        words = f"outside {low:.3g} to {high:.3g}"
    else:
        words = f"below {low:.3g}" if breaks == [low] else f"above {high:.3g}"
    return Squeezed(
        note=f"compressed {words}",
        ticks=tuple(sorted(ticks)),
        breaks=tuple(breaks),
        low=low,
        high=high,
        least=least,
        most=most,
    )


def nice(low: float, high: float) -> list[float]:
    """About five round numbers between two values."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
