"""One look for the figures of the theory lab: that of the report's static charts.

Colours are Okabe & Ito's, told apart with any colour vision. Draw inside ``style()``::

    with style():
        figure, (left, right) = panels(2)
        left.plot(x, y, color=COLOURS["mclr"], label="MCLR")
        save(figure, folder, "theorem1")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mclr.objectives.catalogue import METHODS
from mclr.report.static import STYLE
from mclr.report.static import save as save_file

# What a curve is, not where it stands, picks its colour; methods look as they do in the report.
COLOURS = {name: method.colour for name, method in METHODS.items()} | {
    "truth": "#1b1f24",
    "marginal": "#7f7f7f",
    "density": "#56b4e9",
}
# For families of curves (several δ, β, classes …), in this order.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FORMATS = ("pdf", "png")


@contextmanager
def style() -> Iterator[None]:
    """Everything created inside has the style of the project's figures."""
    # Tick labels of logarithmic axes are formulas.
    with matplotlib.rc_context({**STYLE, "text.parse_math": True}):
        yield


def panels(
    columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.2
) -> tuple[Figure, list[Axes]]:
    """A new figure and its axes in reading order; ``width`` and ``height`` of one, in inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``<folder>/<name>.pdf`` and ``.png``; the same figure gives the same bytes."""
    with style():
        for suffix in FORMATS:
            save_file(figure, folder / f"{name}.{suffix}")
