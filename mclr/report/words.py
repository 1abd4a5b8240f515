"""Words beside points, placed so that none covers another: where there is no room, none is said."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mclr.report.chart import Panel
from mclr.report.scale import Scale

# Of the width and height of the axes of a chart whose panels stand side by side; alone, half.
LETTER, HEIGHT, GAP = 0.024, 0.065, 0.02
RIGHT = 0.97  # where words end at most: a page may be narrow
SPOTS = {
    "top right": (1, 1),
    "bottom right": (1, -1),
    "top left": (-1, 1),
    "bottom left": (-1, -1),
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
}
"""Where words may stand, as plotly calls it: the first that is free is taken, those ahead first."""


@dataclass(frozen=True)
class Box:
    """A rectangle within the axes, both of length 1."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Whether two rectangles overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies within."""
        return self.left < x < self.right and self.bottom < y < self.top


def spots(panel: Panel, columns: int) -> dict[tuple[int, int], str]:
    """The spot for the words of (series, point), by position; absent: no room."""
    size = 1.0 if columns > 1 else 0.5
    at = _places(panel)
    points = [place for places in at for place in places]
    taken: list[Box] = []
    found = {}
    for i, j in _in_order(panel):
        x, y = at[i][j]
        if not math.isfinite(x + y):
            continue
        words = panel.series[i].notes[j]
        free = []
        for rank, (spot, way) in enumerate(SPOTS.items()):
            box = _box(x, y, words, way, size)
            inside = box.left >= 0 and box.right <= RIGHT and box.bottom >= 0 and box.top <= 1.04
            if inside and not any(box.meets(other) for other in taken):
                free.append((sum(box.holds(*point) for point in points), rank, spot, box))
        if free:
            _, _, spot, box = min(free, key=lambda entry: entry[:2])
            taken.append(box)
            found[i, j] = spot
    return found


def _in_order(panel: Panel) -> Iterator[tuple[int, int]]:
    """The base model's word first, then that of each series."""
    noted = [(i, j) for i, series in enumerate(panel.series) for j in series.notes]
    yield from sorted(noted, key=lambda key: panel.series[key[0]].method.name != "base")


def _box(x: float, y: float, words: str, way: tuple[int, int], size: float) -> Box:
    width, height, gap = (value * size for value in (LETTER * len(words), HEIGHT, GAP))
    left = x + {1: gap, 0: -width / 2, -1: -gap - width}[way[0]]
    bottom = y + {1: gap, 0: -height / 2, -1: -gap - height}[way[1]]
    return Box(left, bottom, left + width, bottom + height)


def _places(panel: Panel) -> list[list[tuple[float, float]]]:
    """Every point of every series within the axes."""
    xs = _fractions(panel.x, [list(series.x) for series in panel.series])
    ys = _fractions(panel.y, [list(series.y) for series in panel.series])
    return [list(zip(x, y, strict=True)) for x, y in zip(xs, ys, strict=True)]


def _fractions(scale: Scale, values: list[list[float]]) -> list[list[float]]:
    def place(value: float) -> float:
        if scale.log:
            return math.log10(value) if value > 0 else math.nan
        return scale.place(value)

    placed = [[place(value) for value in line] for line in values]
    finite = [value for line in placed for value in line if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    span = (high - low) * 1.16 or 1.0
    return [[(value - low) / span + 0.07 for value in line] for line in placed]
