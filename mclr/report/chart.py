"""What a chart shows, free of any plotting library: the static and interactive files share it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Series:
    """One line: points (x, y), the standard deviation of y (None where unknown), hover texts.

    ``variant`` numbers the hyperparameters of one method (it picks the dashes); ``notes`` are
    words beside points and ``ring`` the point to ring, both by position.
    """

    label: str
    method: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float | None, ...]
    hover: tuple[str, ...]
    variant: int = 0
    notes: dict[int, str] = field(default_factory=dict)
    ring: int | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ``banded`` shows the spread of y as a band around each line."""

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    banded: bool = False
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Chart:
    """One figure: panels in reading order, ``columns`` in a row."""

    stem: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int
