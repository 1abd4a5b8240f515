"""The report: one self-contained page with table, orderings, figures and provenance."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from mclr.config import Tier
from mclr.errors import UserError
from mclr.files import write_text
from mclr.report.curves import charts
from mclr.report.interactive import fragment
from mclr.report.methods import describe
from mclr.report.names import KINDS, kinds_of, stem
from mclr.report.orderings import HOLDS, UNCLEAR, Ordering, orderings
from mclr.report.table import HEADER, best_rows, blocks, caption

INVARIANT = ("git_commit", "git_dirty", "hardware", "python", "packages", "data_sha256")


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its PNG as a data URI and, for charts, the interactive ``<div>``.

    A ``wide`` chart keeps its width on a small screen and scrolls sideways.
    """

    anchor: str
    title: str
    caption: str
    paper: str
    alt: str
    image: str
    interactive: str
    wide: bool


def write_report(
    metrics: pd.DataFrame,
    tier: Tier,
    figures_folder: Path,
    provenance: Sequence[Mapping[str, Any]],
    features_info: Mapping[str, Mapping[str, Any]],
    path: Path,
) -> None:
    """Write the report as one HTML file that loads nothing from anywhere.

    Args:
        figures_folder: holds the PNG of every figure of the tier (``names.figure_files``).
        provenance: content of ``provenance.json`` of each run.
        features_info: content of ``info.json`` of each feature net, by name.
        path: file to write; the same arguments give the same bytes.

    Raises:
        UserError: a figure is missing, or the metrics do not fit the tier.
    """
    template = files("mclr.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found = orderings(best_rows(metrics, tier.report.features))
    content = {
        "tier": tier,
        "header": HEADER,
        "blocks": blocks(metrics, tier),
        "caption": caption(metrics, tier),
        "orderings": found,
        "verdicts": _count(found),
        "classes": {HOLDS: "holds", UNCLEAR: "unclear"},
        "models": _pictures(metrics, tier, figures_folder),
        "features": _accuracies(features_info),
        "protocol": _protocol(metrics, tier),
        "sources": _sources(provenance),
        "runs": [_run(entry) for entry in provenance],
        "plotly": get_plotlyjs(),
    }
    write_text(path, environment.from_string(template).render(content))


def _count(found: list[Ordering]) -> str:
    """How many of the orderings hold, in words."""
    holding = sum(ordering.verdict == HOLDS for ordering in found)
    unclear = sum(ordering.verdict == UNCLEAR for ordering in found)
    return (
        f"{holding} of {len(found)} hold, {unclear} lie within the seed spread, "
        f"{len(found) - holding - unclear} do not hold"
    )


def _pictures(metrics: pd.DataFrame, tier: Tier, folder: Path) -> dict[str, list[Picture]]:
    """The figures of each model, by its label."""
    shown = charts(metrics, tier)
    drawn = {chart.stem: fragment(chart) for chart in shown}
    wide = {chart.stem for chart in shown if chart.columns > 1}
    found: dict[str, list[Picture]] = {}
    for name, model in tier.models.items():
        for kind in kinds_of(tier, name):
            key = stem(name, kind)
            alt = f"{KINDS[kind].title}, {model.label}. {KINDS[kind].caption}"
            picture = Picture(
                f"figure-{key}",
                KINDS[kind].title,
                KINDS[kind].caption,
                KINDS[kind].paper,
                alt,
                _data_uri(folder / f"{key}.png"),
                drawn.get(key, ""),
                key in wide,
            )
            found.setdefault(f"{model.label} ({name})", []).append(picture)
    return found


def _data_uri(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: figure is missing; run `snakemake figures` to make it")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _accuracies(features_info: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(name, accuracy on held-out images, accuracy on training images) of each feature net."""
    return [
        (name, _percent(info.get("held_out_accuracy")), _percent(info.get("train_accuracy")))
        for name, info in sorted(features_info.items())
    ]


def _percent(value: float | None) -> str:
    return "not recorded" if value is None else f"{100 * value:.1f} %"


def _protocol(metrics: pd.DataFrame, tier: Tier) -> list[tuple[str, str]]:
    """How every point was measured, in words."""
    evaluation = tier.evaluation
    return [
        ("protocol id", str(metrics["protocol"].iloc[0])),
        ("images per point", f"{evaluation.n_samples:,}"),
        ("labels", evaluation.labels),
        ("reference", f"{tier.data.n_reference:,} held-out images of {tier.data.source}"),
        ("FD, precision, recall", f"features {tier.report.features}"),
        ("precision, recall", f"k = {evaluation.neighbourhood} nearest neighbours"),
        ("IS", f"classifier {evaluation.isc_features}, {evaluation.isc_splits} splits"),
        ("seeds", ", ".join(str(seed) for seed in tier.seeds)),
    ]


def _sources(provenance: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Every value that the runs recorded for the facts that should be the same in all of them."""
    found = []
    for key in INVARIANT:
        values = {_words(entry[key]) for entry in provenance if key in entry}
        if values:
            found.append((key.replace("_", " "), sorted(values)))
    return found


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in sorted(value.items()))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "unknown"


def _run(entry: Mapping[str, Any]) -> dict[str, str]:
    """One line of the list of runs."""
    settings = json.dumps(entry.get("hyperparameters", {}))
    seconds = entry.get("seconds")
    return {
        "experiment": str(entry.get("experiment", "")),
        "method": str(entry.get("method", "")),
        "seed": str(entry.get("seed", "")),
        "settings": describe(settings),
        "minutes": "" if seconds is None else f"{seconds / 60:.1f}",
        "commit": str(entry.get("git_commit", ""))[:10],
        "config": str(entry.get("config_sha256", ""))[:10],
    }
