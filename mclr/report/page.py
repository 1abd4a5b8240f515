"""The report: one self-contained page with tables, images, claims, figures and provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from mclr.config.tier import Tier
from mclr.files import write_text
from mclr.report import facts
from mclr.report.analyses import separation_rows, similarity_rows
from mclr.report.chart import Chart
from mclr.report.cost import Cost, duration, evaluations_per_image, total
from mclr.report.curves import charts
from mclr.report.embedded import file_uri, packed
from mclr.report.gallery import gallery
from mclr.report.interactive import CONFIG, DARK, drawing, height_of
from mclr.report.lines import Measured
from mclr.report.names import KINDS, figures_of, stem
from mclr.report.paper_table import TITLES, beside_paper
from mclr.report.rows import HEADER
from mclr.report.sliders import Sliders, sliders
from mclr.report.table import tables
from mclr.report.verdict import is_own, verdict

CLASSES = {"supported": "holds", "not supported": "fails", "inconclusive": "unclear"}
REMEDY = "run `snakemake figures` to make it"
EXPLORED = ("fd-is", "precision-recall", "sampling", "dial")
"""Kinds of chart whose points are shown one by one beside the chart, with their images."""


@dataclass(frozen=True)
class Picture:
    """A figure on the page: a chart that is drawn when it is seen, or an image as a data URI.

    A ``wide`` chart keeps its width on a small screen and scrolls sideways; beside an ``explored``
    one its points are shown one by one. ``height`` is that of a chart in pixels, else 0.
    """

    name: str
    title: str
    caption: str
    paper: str
    alt: str
    image: str
    height: int
    wide: bool
    explored: bool


@dataclass(frozen=True)
class Sources:
    """What the page shows beside the metrics: the content of other jobs' files.

    provenance: of each run; features: ``info.json`` of each feature net; claims: what
    ``mclr.claims.render.shown`` makes of ``claims.json``.
    similarity and separation are empty where they were not computed, grids (the image grid of each
    point, by ``Point.path``) where no images are to be shown, costs without benchmark files.
    shared_images: reference images that are training images, too.
    """

    provenance: Sequence[Mapping[str, Any]]
    features: Mapping[str, Mapping[str, Any]]
    claims: Mapping[str, Any]
    similarity: Mapping[str, Any] = field(default_factory=dict)
    separation: Mapping[str, Any] = field(default_factory=dict)
    grids: Mapping[str, Path] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    shared_images: int = 0
    costs: Sequence[Cost] = ()


def write_report(
    metrics: pd.DataFrame, tier: Tier, figures_folder: Path, sources: Sources, path: Path
) -> None:
    """Write the report as one HTML file that loads nothing from anywhere.

    Args:
        figures_folder: holds the PNG of every figure of the tier (``names.figure_files``) and the
            heat map of each model in ``sources.similarity``.
        path: file to write; the same arguments give the same bytes.

    Raises:
        UserError: a figure or an image grid is missing, or the metrics do not fit the tier.
    """
    drawn = {chart.stem: chart for chart in charts(metrics, tier)}
    shown = sliders(metrics, tier)
    images = {
        "gallery": gallery(
            metrics, tier, sources.grids, sources.class_names, _keys(tier, shown, drawn.values())
        ),
        "sliders": shown,
        "hero": _hero(tier, shown),
        "models": _pictures(tier, drawn, figures_folder),
        "charts": packed(json.dumps({name: drawing(chart) for name, chart in drawn.items()})),
        "plotly": packed(get_plotlyjs()),
        "config": CONFIG,
        "heat_maps": _heat_maps(sources.similarity, tier, figures_folder),
    }
    environment = Environment(
        loader=PackageLoader("mclr.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    content = _words(metrics, tier, sources) | images
    page = environment.get_template("page.html.j2").render(content, tier=tier, dark_charts=DARK)
    write_text(path, page)


def _words(metrics: pd.DataFrame, tier: Tier, sources: Sources) -> dict[str, Any]:
    """Tables and lists of the page."""
    main, *others = tables(metrics, tier)
    return {
        "header": HEADER,
        "table": main,
        "other_tables": others,
        "paper_titles": TITLES,
        "own": is_own(tier),
        "verdict": verdict(main, tier),
        "beside": [] if is_own(tier) else beside_paper(main, tier, sources.claims["minds"]),
        "short": facts.in_short(main, tier),
        **sources.claims,
        "classes": CLASSES,
        "similarity": similarity_rows(sources.similarity, tier),
        "separation": separation_rows(sources.separation, tier),
        "floors": facts.real_floors(metrics, tier),
        "features": facts.accuracies(sources.features),
        "costs": sources.costs,
        "total": total(sources.costs),
        "evaluations": evaluations_per_image(metrics, tier),
        "protocol": facts.protocol(metrics, tier, sources.shared_images),
        "sources": facts.sources(sources.provenance),
        "runs": [facts.run(entry) for entry in sources.provenance],
    }


def _hero(tier: Tier, shown: Sequence[Sliders]) -> Sliders | None:
    """Whose images lead the page: the model of the largest images, the first of several."""
    # A model that names no resolution has that of the data, which the others are shrunk from.
    sizes = {name: model.resolution or math.inf for name, model in tier.models.items()}
    return max(shown, key=lambda entry: sizes[entry.model], default=None)


def _keys(tier: Tier, shown: Sequence[Sliders], drawn: Iterable[Chart]) -> set[str]:
    """The points whose images the page shows: of the sliders, and beside the charts."""
    stops = [stop for entry in shown for track in entry.tracks for stop in track.stops]
    explored = {stem(m, *figure) for m in tier.models for figure in _explored(tier, m)}
    lines = [
        series
        for chart in drawn
        if chart.stem in explored
        for panel in chart.panels
        for series in panel.series
        if isinstance(series, Measured)
    ]
    return {stop.key for stop in stops} | {key for series in lines for key in series.keys}


def _explored(tier: Tier, model: str) -> list[tuple[str, str]]:
    return [(kind, net) for kind, net in figures_of(tier, model) if kind in EXPLORED]


def _pictures(tier: Tier, drawn: Mapping[str, Chart], folder: Path) -> dict[str, list[Picture]]:
    """The figures of each model, by its label."""
    found: dict[str, list[Picture]] = {}
    for name, model in tier.models.items():
        for kind, net in figures_of(tier, name):
            key = stem(name, kind, net)
            title = KINDS[kind].title + (f" ({net})" if net else "")
            chart = drawn.get(key)
            picture = Picture(
                key,
                title,
                KINDS[kind].caption,
                "" if is_own(tier) else KINDS[kind].paper,
                f"{title}, {model.label}. {KINDS[kind].caption}",
                "" if chart else file_uri(folder / f"{key}.png", REMEDY, few_colours=True),
                height_of(chart) if chart else 0,
                chart is not None and chart.columns > 1,
                kind in EXPLORED,
            )
            found.setdefault(f"{model.label} ({name})", []).append(picture)
    return found


def _heat_maps(similarity: Mapping[str, Any], tier: Tier, folder: Path) -> list[tuple[str, str]]:
    """(label, data URI) of the heat map of each model that was compared."""
    return [
        (
            tier.models[name].label,
            file_uri(folder / f"{stem(name, 'similarity')}.png", REMEDY, few_colours=True),
        )
        for name in similarity.get("models", {})
    ]
