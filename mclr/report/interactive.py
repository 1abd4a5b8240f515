"""Charts drawn with plotly: pages that answer to hover and zoom, and work offline."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from mclr.files import write_text
from mclr.report.chart import Chart, Panel, Series, band_of, has_band, placed
from mclr.report.lines import Measured
from mclr.report.names import LIBRARY
from mclr.report.scale import Scale
from mclr.report.words import spots

# For a light page; a dark page inverts the drawing (``DARK``), lines and labels alike.
INK, GRID = "#444b53", "rgba(128,128,128,0.25)"
BREAK = {"color": "#9a9a9a", "width": 1, "dash": "dash"}
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
    """The chart as a ``<div>`` with its script, for a page that loads plotly.js."""
    drawing: str = _draw(chart).to_html(
        full_html=False, include_plotlyjs=False, div_id=f"chart-{chart.stem}", config=CONFIG
    )
    return drawing


def drawing(chart: Chart) -> dict[str, Any]:
    """The chart as plotly.js takes it, ``data`` and ``layout``, for a page that draws it later."""
    found: dict[str, Any] = json.loads(_draw(chart).to_json())
    return found


def height_of(chart: Chart) -> int:
    """Pixels that a chart is high on a page."""
    rows = math.ceil(len(chart.panels) / chart.columns)
    return 330 * rows + 130 if chart.columns > 1 else 560


def _draw(chart: Chart) -> go.Figure:
    rows, height = math.ceil(len(chart.panels) / chart.columns), height_of(chart)
    figure = make_subplots(rows, chart.columns, horizontal_spacing=0.15, vertical_spacing=0.14)
    seen: set[str] = set()
    for i, panel in enumerate(chart.panels):
        place = {"row": i // chart.columns + 1, "col": i % chart.columns + 1}
        where = spots(panel, chart.columns)
        for number, series in enumerate(panel.series):
            words = {j: spot for (k, j), spot in where.items() if k == number}
            for trace in _traces(panel, series, words, shown=series.label not in seen):
                figure.add_trace(trace, **place)
            seen.add(series.label)
        x_title, y_title = (title.replace("\n", "<br>") for title in panel.titles)
        figure.update_xaxes(title=x_title, **_axis(panel.x), **place)
        figure.update_yaxes(title=y_title, **_axis(panel.y), **place)
        for at in panel.x.breaks:
            figure.add_vline(x=at, line=BREAK, **place)
        for at in panel.y.breaks:
            figure.add_hline(y=at, line=BREAK, **place)
    figure.update_layout(
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13},
        margin={"l": 50, "r": 10, "t": 30, "b": 40},
        legend={"orientation": "h", "y": -60 / (height - 130), "yanchor": "top", "x": 0},
        hovermode="closest",
        # Not the line's colour: this is readable on a dark page, too, where it is turned over.
        hoverlabel={"bgcolor": "#ffffff", "bordercolor": INK, "font": {"color": "#1b1f24"}},
        dragmode=False,  # a finger on the chart scrolls the page; zoom is in the tool bar
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": "#d55e00"},
    )
    return figure


def _axis(scale: Scale) -> dict[str, Any]:
    """How an axis looks; ticks of a scale of our own are given, others are plotly's choice."""
    found = {"gridcolor": GRID, "linecolor": INK, "zeroline": False, "automargin": True}
    found["type"] = "log" if scale.log else "linear"
    if scale.ticks:
        found["tickvals"] = [place for place, _ in scale.ticks]
        found["ticktext"] = [words for _, words in scale.ticks]
    return found


def _traces(panel: Panel, series: Series, words: dict[int, str], shown: bool) -> list[go.Scatter]:
    method = series.method
    colour = series.colour or method.colour
    is_base = method.name == "base"
    mode = "lines" if series.guide else "markers+text" if is_base else "lines+markers+text"
    x, y = placed(panel, series)
    line = go.Scatter(
        x=x,
        y=y,
        name=series.label,
        legendgroup=series.label,
        showlegend=shown,
        mode=mode,
        line={"color": colour, "dash": "dot" if series.guide else "solid"},
        marker={"symbol": method.symbol, "size": 13 if is_base else 8, "color": colour},
        text=[series.notes.get(i, "") if i in words else "" for i in range(len(x))],
        textposition=[words.get(i, "top right") for i in range(len(x))],
        hovertext=list(series.hover),
        hoverinfo="text",
        customdata=list(series.keys) if isinstance(series, Measured) else None,
        cliponaxis=False,  # words beside the last point stay whole
    )
    is_banded = panel.banded and has_band(series)
    band = [_band(panel, series, x, colour)] if is_banded else []
    ring = [] if series.ring is None else [_ring(x[series.ring], y[series.ring], series, colour)]
    return [*band, line, *ring]


def _ring(x: float, y: float, series: Series, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"symbol": "circle-open", "size": 19, "color": colour, "line": {"width": 2}},
        legendgroup=series.label,
        showlegend=False,
        hoverinfo="skip",
    )


def _band(panel: Panel, series: Series, x: list[float], colour: str) -> go.Scatter:
    low, high = ([panel.y.place(value) for value in side] for side in band_of(series))
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
