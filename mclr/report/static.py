"""Charts drawn with matplotlib: PDF for papers, PNG (of 256 colours, a third in size) for pages.

Only figure objects are used, no global pyplot state; no date enters a file, so the same chart
gives the same bytes.
"""

from __future__ import annotations

import math
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
from mclr.report.chart import Chart, Panel, Series, band_of, has_band

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
        _draw_panel(axes, panel)
    handles = {series.label: _handle(series) for p in chart.panels for series in p.series}
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=3, handlelength=3.2
    )
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
    if panel.log_y:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    for series in panel.series:
        _draw_series(axes, series, panel.banded)
    axes.margins(x=0.06, y=0.08)


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


def _draw_series(axes: Axes, series: Series, banded: bool) -> None:
    is_base = series.method.name == "base"
    look = _look(series) | ({"markersize": 8, "zorder": 4} if is_base else {})
    axes.plot(series.x, series.y, **look)
    if banded and has_band(series):
        _draw_band(axes, series)
    colour = _colour(series)
    if series.ring is not None:
        x, y = series.x[series.ring], series.y[series.ring]
        axes.plot(x, y, "o", mfc="none", mec=colour, markersize=12, mew=1.2, zorder=5)
    for i, words in series.notes.items():
        axes.annotate(
            words,
            (series.x[i], series.y[i]),
            xytext=(6, 6),
            textcoords="offset points",
            color="#404040" if is_base else colour,
            fontsize=8,
            fontweight="bold" if is_base else "normal",
        )


def _draw_band(axes: Axes, series: Series) -> None:
    low, high = band_of(series)
    axes.fill_between(series.x, low, high, color=_colour(series), alpha=0.15, lw=0)
