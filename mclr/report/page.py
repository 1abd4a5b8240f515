"""The report: one self-contained page with tables, claims, figures and provenance."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from mclr.claims.render import summary, topics
from mclr.config.data import OwnImages
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import write_text
from mclr.report.analyses import separation_rows, similarity_rows
from mclr.report.curves import charts
from mclr.report.interactive import fragment
from mclr.report.methods import describe
from mclr.report.names import KINDS, figures_of, stem
from mclr.report.rows import HEADER
from mclr.report.summary import floors
from mclr.report.table import tables

INVARIANT = ("git_commit", "git_dirty", "hardware", "python", "packages", "data_sha256")
CLASSES = {"supported": "holds", "not supported": "fails", "inconclusive": "unclear"}


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


@dataclass(frozen=True)
class Sources:
    """What the page shows beside the metrics: the content of other jobs' files.

    provenance: of each run; features: ``info.json`` of each feature net; claims: ``claims.json``.
    similarity and separation are empty where they were not computed.
    """

    provenance: Sequence[Mapping[str, Any]]
    features: Mapping[str, Mapping[str, Any]]
    claims: Mapping[str, Any]
    similarity: Mapping[str, Any] = field(default_factory=dict)
    separation: Mapping[str, Any] = field(default_factory=dict)


def write_report(
    metrics: pd.DataFrame, tier: Tier, figures_folder: Path, sources: Sources, path: Path
) -> None:
    """Write the report as one HTML file that loads nothing from anywhere.

    Args:
        figures_folder: holds the PNG of every figure of the tier (``names.figure_files``) and the
            heat map of each model in ``sources.similarity``.
        path: file to write; the same arguments give the same bytes.

    Raises:
        UserError: a figure is missing, or the metrics do not fit the tier.
    """
    template = files("mclr.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    main, *others = tables(metrics, tier)
    content = {
        "tier": tier,
        "header": HEADER,
        "table": main,
        "other_tables": others,
        "claims": topics(sources.claims, list(tier.models)),
        "verdicts": summary(sources.claims),
        "classes": CLASSES,
        "models": _pictures(metrics, tier, figures_folder),
        "similarity": similarity_rows(sources.similarity, tier),
        "heat_maps": _heat_maps(sources.similarity, tier, figures_folder),
        "separation": separation_rows(sources.separation, tier),
        "floors": _floors(metrics, tier),
        "features": _accuracies(sources.features),
        "protocol": _protocol(metrics, tier),
        "sources": _sources(sources.provenance),
        "runs": [_run(entry) for entry in sources.provenance],
        "plotly": get_plotlyjs(),
    }
    write_text(path, environment.from_string(template).render(content))


def _pictures(metrics: pd.DataFrame, tier: Tier, folder: Path) -> dict[str, list[Picture]]:
    """The figures of each model, by its label."""
    shown = {chart.stem: chart for chart in charts(metrics, tier)}
    found: dict[str, list[Picture]] = {}
    for name, model in tier.models.items():
        for kind, net in figures_of(tier, name):
            key = stem(name, kind, net)
            title = KINDS[kind].title + (f" ({net})" if net else "")
            picture = Picture(
                f"figure-{key}",
                title,
                KINDS[kind].caption,
                KINDS[kind].paper,
                f"{title}, {model.label}. {KINDS[kind].caption}",
                _data_uri(folder / f"{key}.png"),
                fragment(shown[key]) if key in shown else "",
                key in shown and shown[key].columns > 1,
            )
            found.setdefault(f"{model.label} ({name})", []).append(picture)
    return found


def _heat_maps(similarity: Mapping[str, Any], tier: Tier, folder: Path) -> list[tuple[str, str]]:
    """(label, data URI) of the heat map of each model that was compared."""
    return [
        (tier.models[name].label, _data_uri(folder / f"{stem(name, 'similarity')}.png"))
        for name in similarity.get("models", {})
    ]


def _data_uri(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: figure is missing; run `snakemake figures` to make it")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _floors(metrics: pd.DataFrame, tier: Tier) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(model, number of images, (column, value) of each metric) of real images."""
    columns = [f"{m}_{net}" for net in tier.features for m in ("fd", "precision", "recall")]
    known = [name for name in [*columns, "is_mean"] if name in metrics.columns]
    groups = floors(metrics).groupby(["model", "n_samples"], sort=False)[known]
    rows = groups.mean().reset_index().to_dict("records")
    return [
        (str(row["model"]), f"{row['n_samples']:,}", [(name, f"{row[name]:.3g}") for name in known])
        for row in rows
    ]


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
    generated = metrics[metrics["method"] == "base"]
    ids = dict(zip(generated["model"], generated["protocol"], strict=True))
    same = len(set(ids.values())) == 1
    named = [str(value) if same else f"{value} ({model})" for model, value in ids.items()]
    seeds = ", ".join(str(seed) for seed in tier.seeds)
    if tier.final:
        seeds += f"; final: {', '.join(str(seed) for seed in tier.final.seeds)}"
    return [
        ("protocol id", ", ".join(dict.fromkeys(named))),
        ("images per point", f"{evaluation.n_samples:,}"),
        ("labels", evaluation.labels),
        ("reference", _reference(tier)),
        ("FD, precision, recall", f"features {', '.join(tier.features)}"),
        ("precision, recall", f"k = {evaluation.neighbourhood} nearest neighbours"),
        ("IS", f"classifier {evaluation.isc_features}, {evaluation.isc_splits} splits"),
        ("seeds", seeds),
    ]


def _reference(tier: Tier) -> str:
    data = tier.data
    if isinstance(data, OwnImages):
        kind = "held-out" if data.reference == "held-out" else "training"
        count = f"{data.n_reference:,}" if data.n_reference else "all"
        return f"{count} {kind} images of {data.path}"
    held_out = f"{data.n_reference:,} held-out" if data.n_reference else "the test"
    return f"{held_out} images of {data.source}"


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
