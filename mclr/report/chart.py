"""What a chart shows, free of any plotting library: the static and interactive files share it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mclr.objectives.method import Method
from mclr.report.scale import LINEAR, Scale


@dataclass(frozen=True)
class Series:
    """One line: points (x, y), the standard deviation of y (None where unknown), hover texts.

    ``notes`` are words beside points and ``ring`` the point to ring, both by position;
    ``colour`` is that of the method if empty. A ``guide`` is a level to compare with: dotted,
    without markers and band.
    """

    label: str
    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float | None, ...]
    hover: tuple[str, ...]
    notes: dict[int, str] = field(default_factory=dict)
    ring: int | None = None
    colour: str = ""
    guide: bool = False


def has_band(series: Series) -> bool:
    """Whether a line has a band: every spread is known, and it is no single point or level."""
    known = all(spread is not None for spread in series.spread)
    return known and series.method.name != "base" and not series.guide and len(series.x) > 1


def band_of(series: Series) -> tuple[list[float], list[float]]:
    """y less and plus its standard deviation, at every point."""
    pairs = [(y, s or 0.0) for y, s in zip(series.y, series.spread, strict=True)]
    return [y - s for y, s in pairs], [y + s for y, s in pairs]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ``banded`` shows the spread of y as a band around each line.

    ``x`` and ``y`` say where values are placed; what is unusual about them stands in the labels.
    """

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    banded: bool = False
    x: Scale = LINEAR
    y: Scale = LINEAR

    @property
    def titles(self) -> tuple[str, str]:
        """The labels of both axes with the notes of their scales; that of y on a second line."""
        x, y = (f" ({scale.note})" if scale.note else "" for scale in (self.x, self.y))
        return self.x_label + x, self.y_label + y.replace(" ", "\n", 1)


def placed(panel: Panel, series: Series) -> tuple[list[float], list[float]]:
    """Where the points of a series are drawn, along x and along y."""
    return [panel.x.place(x) for x in series.x], [panel.y.place(y) for y in series.y]


@dataclass(frozen=True)
class Chart:
    """One figure: panels in reading order, ``columns`` in a row."""

    stem: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int
