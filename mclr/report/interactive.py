"""Charts drawn with plotly: pages that answer to hover and zoom, and work offline."""

from __future__ import annotations

import html
import math
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from mclr.files import write_text
from mclr.report.chart import Chart, Series, band_of, has_band
from mclr.report.lines import Measured
from mclr.report.names import LIBRARY

# For a light page; a dark page inverts the drawing (``DARK``), lines and labels alike.
INK, GRID = "#444b53", "rgba(128,128,128,0.25)"
DARK = (
    "@media (prefers-color-scheme: dark) "
    "{ .js-plotly-plot { filter: invert(1) hue-rotate(180deg); } }"
)
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d"],
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem; }}
{dark}
</style>
<script src="{library}"></script>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{caption}</p>
{chart}
<noscript>This chart needs JavaScript; the same chart is beside this file as PNG and PDF.</noscript>
</main>
</body>
</html>
"""


def write_html(chart: Chart, path: Path) -> Path:
    """Write one chart as a page of its own; it needs ``write_library`` in the same folder."""
    title, caption = html.escape(chart.title), html.escape(chart.caption)
    words = {"title": title, "caption": caption, "library": LIBRARY, "dark": DARK}
    page = PAGE.format(**words, chart=fragment(chart))
    write_text(path, page)
    return path


def write_library(folder: Path) -> Path:
    """Write plotly.js (5 MB) once, for all pages of a folder; they work offline."""
    write_text(folder / LIBRARY, get_plotlyjs())
    return folder / LIBRARY


def fragment(chart: Chart) -> str:
    """The chart as a ``<div>`` with its script, for a page that holds plotly.js already."""
    drawing: str = _draw(chart).to_html(
        full_html=False, include_plotlyjs=False, div_id=f"chart-{chart.stem}", config=CONFIG
    )
    return drawing


def _draw(chart: Chart) -> go.Figure:
    rows = math.ceil(len(chart.panels) / chart.columns)
    height = 330 * rows + 130 if chart.columns > 1 else 560
    figure = make_subplots(rows, chart.columns, horizontal_spacing=0.13, vertical_spacing=0.14)
    seen: set[str] = set()
    for i, panel in enumerate(chart.panels):
        place = {"row": i // chart.columns + 1, "col": i % chart.columns + 1}
        for series in panel.series:
            for trace in _traces(series, panel.banded, shown=series.label not in seen):
                figure.add_trace(trace, **place)
            seen.add(series.label)
        axis = {"gridcolor": GRID, "linecolor": INK, "zeroline": False, "automargin": True}
        scale = {True: "log", False: "linear"}
        figure.update_xaxes(title=panel.x_label, type=scale[panel.log_x], **axis, **place)
        figure.update_yaxes(title=panel.y_label, type=scale[panel.log_y], **axis, **place)
    figure.update_layout(
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13},
        margin={"l": 50, "r": 10, "t": 30, "b": 40},
        legend={"orientation": "h", "y": -60 / (height - 130), "yanchor": "top", "x": 0},
        hovermode="closest",
        dragmode=False,  # a finger on the chart scrolls the page; zoom is in the tool bar
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": "#d55e00"},
    )
    return figure


def _traces(series: Series, banded: bool, shown: bool) -> list[go.Scatter]:
    method = series.method
    colour = series.colour or method.colour
    is_base = method.name == "base"
    mode = "lines" if series.guide else "markers+text" if is_base else "lines+markers+text"
    line = go.Scatter(
        x=list(series.x),
        y=list(series.y),
        name=series.label,
        legendgroup=series.label,
        showlegend=shown,
        mode=mode,
        line={"color": colour, "dash": "dot" if series.guide else "solid"},
        marker={"symbol": method.symbol, "size": 13 if is_base else 8, "color": colour},
        text=[series.notes.get(i, "") for i in range(len(series.x))],
        textposition="top right",
        hovertext=list(series.hover),
        hoverinfo="text",
        customdata=list(series.keys) if isinstance(series, Measured) else None,
        cliponaxis=False,  # words beside the last point stay whole
    )
    band = [_band(series, colour)] if banded and has_band(series) else []
    ring = [] if series.ring is None else [_ring(series, series.ring, colour)]
    return [*band, line, *ring]


def _ring(series: Series, position: int, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[series.x[position]],
        y=[series.y[position]],
        mode="markers",
        marker={"symbol": "circle-open", "size": 19, "color": colour, "line": {"width": 2}},
        legendgroup=series.label,
        showlegend=False,
        hoverinfo="skip",
    )


def _band(series: Series, colour: str) -> go.Scatter:
    low, high = band_of(series)
    x = list(series.x)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=x + x[::-1],
        y=high + low[::-1],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.15)",
        line={"width": 0},
        mode="lines",
        legendgroup=series.label,
        showlegend=False,
        hoverinfo="skip",
    )
