"""Charts drawn with matplotlib: PDF for papers, PNG (of 256 colours, a third in size) for pages.

Only figure objects are used, no global pyplot state; no date enters a file, so the same chart
gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from mclr.files import atomic
from mclr.report.chart import Chart, Panel, Series, band_of, has_band, placed
from mclr.report.scale import Scale
from mclr.report.words import SPOTS, spots

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "text.parse_math": False,
    "pdf.fonttype": 42,
    "figure.facecolor": "white",
}
DPI = 160
NO_DATES: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}


def save(figure: Figure, path: Path) -> Path:
    """Write a figure whole, as its extension says (``.pdf`` or ``.png``), without dates."""
    with atomic(path) as temporary:
        FigureCanvasAgg(figure)
        kind = path.suffix
        figure.savefig(temporary, format=kind[1:], dpi=DPI, metadata=NO_DATES[kind])
    return path


def write_static(chart: Chart, path: Path) -> Path:
    """Draw a chart into ``path`` (``.pdf`` or ``.png``)."""
    with matplotlib.rc_context(STYLE):
        save(_draw(chart), path)
    if path.suffix == ".png":
        _reduce_colours(path)
    return path


def _reduce_colours(path: Path) -> None:
    """What is drawn has few colours: the many others of a PNG are shades at the rims of lines."""
    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        dpi = image.info["dpi"]
    with atomic(path) as temporary:
        reduced.save(temporary, "PNG", optimize=True, dpi=dpi)


def _draw(chart: Chart) -> Figure:
    rows = math.ceil(len(chart.panels) / chart.columns)
    size = (8.4, 2.9 * rows + 1.0) if chart.columns > 1 else (6.4, 5.2)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(chart.title, fontsize=11)
    grid = figure.subplots(rows, chart.columns, squeeze=False)
    for axes, panel in zip(grid.flat, chart.panels, strict=True):
        _draw_panel(axes, panel, spots(panel, chart.columns))
    handles = {series.label: _handle(series) for p in chart.panels for series in p.series}
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=3, handlelength=3.2
    )
    return figure


def _draw_panel(axes: Axes, panel: Panel, where: dict[tuple[int, int], str]) -> None:
    x_title, y_title = panel.titles
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    for number, series in enumerate(panel.series):
        _draw_series(axes, panel, series)
        _draw_notes(axes, panel, number, where)
    axes.margins(x=0.06, y=0.08)
    _draw_scale(panel.x, axes.xaxis, axes.set_xscale, axes.axvline)
    _draw_scale(panel.y, axes.yaxis, axes.set_yscale, axes.axhline)


def _draw_scale(
    scale: Scale, axis: Axis, set_kind: Callable[[str], None], line: Callable[..., Line2D]
) -> None:
    """Ticks of one axis, and a thin line where another scale begins."""
    if scale.log:
        set_kind("log")
        _plain_ticks(axis)
    elif scale.ticks:
        axis.set_ticks([place for place, _ in scale.ticks], [words for _, words in scale.ticks])
    for place in scale.breaks:
        line(place, color="#b0b0b0", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)


def _plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis as numbers: powers of ten would be formulas."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _colour(series: Series) -> str:
    return series.colour or series.method.colour


def _look(series: Series) -> dict[str, Any]:
    if series.guide:
        return {"color": _colour(series), "marker": "", "linestyle": ":"}
    dashes = "none" if series.method.name == "base" or len(series.x) == 1 else "-"
    marker = series.method.marker
    return {"color": _colour(series), "marker": marker, "linestyle": dashes}


def _handle(series: Series) -> Line2D:
    size = 8 if series.method.name == "base" else 5
    return Line2D([], [], label=series.label, markersize=size, **_look(series))


def _draw_series(axes: Axes, panel: Panel, series: Series) -> None:
    is_base = series.method.name == "base"
    look = _look(series) | ({"markersize": 8, "zorder": 4} if is_base else {})
    x, y = placed(panel, series)
    axes.plot(x, y, **look)
    colour = _colour(series)
    if panel.banded and has_band(series):
        low, high = ([panel.y.place(v) for v in side] for side in band_of(series))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    if series.ring is not None:
        ring = x[series.ring], y[series.ring]
        axes.plot(*ring, "o", mfc="none", mec=colour, markersize=12, mew=1.2, zorder=5)


def _draw_notes(axes: Axes, panel: Panel, number: int, where: dict[tuple[int, int], str]) -> None:
    """Words beside the points of a series that have a spot."""
    series = panel.series[number]
    is_base = series.method.name == "base"
    x, y = placed(panel, series)
    for i, words in series.notes.items():
        if (number, i) not in where:
            continue
        right, up = SPOTS[where[number, i]]
        axes.annotate(
            words,
            (x[i], y[i]),
            xytext=(7 * right, 7 * up),
            textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[right],
            va={1: "bottom", 0: "center", -1: "top"}[up],
            color="#404040" if is_base else _colour(series),
            fontsize=8,
            fontweight="bold" if is_base else "normal",
        )
