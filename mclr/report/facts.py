"""Facts for the page in words: what came out in short, floors, feature nets, protocol, runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mclr.config.tier import Tier
from mclr.provenance import UNKNOWN
from mclr.report.methods import describe
from mclr.report.rows import Table
from mclr.report.summary import floors
from mclr.settings.data import OwnImages

INVARIANT = ("git_commit", "git_dirty", "hardware", "python", "packages", "data_sha256")


def in_short(table: Table, tier: Tier) -> list[str]:
    """A sentence per model from Table 1: FD of the base model, with CFG, and after MCLR."""
    found = []
    for (name, model), block in zip(tier.models.items(), table.blocks, strict=True):
        methods = table.rows.loc[table.rows["model"] == name, "method"]
        fd = {m: (row.cells[0].value, row.nfe) for m, row in zip(methods, block.rows, strict=True)}
        words = [f"{model.label}: FD {fd['base'][0]} without guidance (NFE {fd['base'][1]})"]
        if "cfg" in fd:
            words.append(f"{fd['cfg'][0]} with CFG (NFE {fd['cfg'][1]})")
        if "mclr" in fd:
            words.append(f"{fd['mclr'][0]} with MCLR, without guidance (NFE {fd['mclr'][1]})")
        found.append(", ".join(words) + ".")
    return found


def real_floors(metrics: pd.DataFrame, tier: Tier) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(model, number of images, (column, value) of each metric) of real images."""
    columns = [f"{m}_{net}" for net in tier.features for m in ("fd", "precision", "recall")]
    known = [name for name in [*columns, "is_mean"] if name in metrics.columns]
    groups = floors(metrics).groupby(["model", "n_samples"], sort=False)[known]
    rows = groups.mean().reset_index().to_dict("records")
    return [
        (str(row["model"]), f"{row['n_samples']:,}", [(name, f"{row[name]:.3g}") for name in known])
        for row in rows
    ]


def accuracies(features_info: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(name, accuracy on held-out images, accuracy on training images) of each feature net."""
    return [
        (name, _percent(info.get("held_out_accuracy")), _percent(info.get("train_accuracy")))
        for name, info in sorted(features_info.items())
    ]


def _percent(value: float | None) -> str:
    return "not recorded" if value is None else f"{100 * value:.1f} %"


def protocol(metrics: pd.DataFrame, tier: Tier, shared: int = 0) -> list[tuple[str, str]]:
    """How every point was measured, in words; shared: reference images that were trained on."""
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
        ("reference", _reference(tier) + (f"; {shared:,} were trained on, too" if shared else "")),
        ("FD, precision, recall", f"features {', '.join(tier.features)}"),
        ("precision, recall", f"k = {evaluation.neighbourhood} nearest neighbours"),
        ("IS", f"classifier {evaluation.isc_features}, {evaluation.isc_splits} splits"),
        ("seeds", seeds),
    ]


def sources(provenance: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
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
    return UNKNOWN if value in (None, "") else str(value)


def run(entry: Mapping[str, Any]) -> dict[str, str]:
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


def _reference(tier: Tier) -> str:
    data = tier.data
    if isinstance(data, OwnImages):
        kind = "held-out" if data.reference == "held-out" else "training"
        count = f"{data.n_reference:,}" if data.n_reference else "all"
        return f"{count} {kind} images of {data.path}"
    held_out = f"{data.n_reference:,} held-out" if data.n_reference else "the test"
    return f"{held_out} images of {data.source}"
