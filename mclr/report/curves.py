"""The curves of the paper (Figures 4-7 and 20-22) and ours as charts, and their files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mclr.config.tier import Tier
from mclr.report.chart import Chart
from mclr.report.names import KINDS, figures_of, stem
from mclr.report.panels import PANELS
from mclr.report.summary import check_metrics
from mclr.report.view import ModelView


def charts(metrics: pd.DataFrame, tier: Tier) -> list[Chart]:
    """Every chart of a tier, in the order of ``figure_names``; grids are not charts.

    Raises:
        UserError: as ``check_metrics`` and ``summarise``.
    """
    check_metrics(metrics, tier)
    found = []
    for name, model in tier.models.items():
        views: dict[str, ModelView] = {}
        for kind, net in figures_of(tier, name):
            if kind not in PANELS:
                continue
            features = net or tier.report.features
            if features not in views:
                views[features] = ModelView(metrics, tier, name, features)
            panels, columns = PANELS[kind](views[features])
            title = f"{model.label}: {KINDS[kind].title}" + (f", features {net}" if net else "")
            found.append(
                Chart(stem(name, kind, net), title, KINDS[kind].caption, tuple(panels), columns)
            )
    return found


def write_figures(metrics: pd.DataFrame, tier: Tier, folder: Path) -> list[Path]:
    """Write every chart of a tier as ``.pdf``, ``.png`` and interactive ``.html``.

    The same metrics give the same bytes. Returns the paths written, all named in
    ``names.figure_files``.
    """
    from mclr.report.interactive import write_html, write_library
    from mclr.report.static import write_static

    paths = []
    for chart in charts(metrics, tier):
        paths += [write_static(chart, folder / f"{chart.stem}.{end}") for end in ("pdf", "png")]
        paths.append(write_html(chart, folder / f"{chart.stem}.html"))
    return [*paths, write_library(folder)]
