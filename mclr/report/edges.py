"""Where a sweep ended too early: settings that were chosen at an edge of what was tried.

A value in the middle has worse ones on both sides. A value at an edge has not: a wider sweep may
find a lower FD, so a row that stands there is marked. Steps and guidance start at 0, the base
model, which is measured, too; so they have an upper edge alone.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any, get_args

import pandas as pd
from pydantic.fields import FieldInfo

from mclr.config.objectives import RELEASED_SUFFIX, FineTuning
from mclr.config.tier import Tier
from mclr.planning.points import GRID
from mclr.report.methods import SYMBOLS
from mclr.report.summary import REAL, complete
from mclr.settings.section import dotted

MARK = "†"
NOTE = (
    f" {MARK} chosen at an edge of the sweep, or at the last checkpoint: "
    "a wider sweep may find a lower FD."
)


def edges_of(metrics: pd.DataFrame, tier: Tier, row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    """At which edges of its sweep the point of a row of ``summarise`` lies, in words.

    Such as ("last checkpoint", "lr largest"); empty for base models, real images and released
    networks, and where every setting that was varied has worse values on both sides, or cannot go
    further.
    """
    if row["method"] in ("base", REAL) or row["method"].endswith(RELEASED_SUFFIX):
        return ()
    tried = complete(metrics)
    of_method = (tried["model"] == row["model"]) & (tried["method"] == row["method"])
    tried = tried[of_method & (tried["stage"] == GRID)]
    found = []
    largest = row["guidance"] and row["guidance"] == tried["guidance"].max()
    if largest and _falls(metrics, tier, row):
        found.append("γ largest")
    if not row["guidance"]:
        same = tried["hyperparameters"] == row["hyperparameters"]
        if row["step"] == tried.loc[same, "step"].max():
            found.append("last checkpoint")
    model = tier.models[row["model"]]
    usual = model.noise.model_dump() if model.noise else {}  # what a run without noise has
    variants = [usual | _settings(text) for text in tried["hyperparameters"].unique()]
    chosen = usual | _settings(row["hyperparameters"])
    for key, value in sorted(chosen.items()):
        alike = [other for other in variants if _without(other, key) == _without(chosen, key)]
        values = {other[key] for other in alike if _is_number(other.get(key))}
        if _is_number(value) and len(values) > 1 and not _is_bound(tier, row, key, value):
            ends = {min(values): "smallest", max(values): "largest"}
            found += [f"{SYMBOLS.get(key, key)} {ends[value]}"] if value in ends else []
    return tuple(found)


def _falls(metrics: pd.DataFrame, tier: Tier, row: Mapping[Hashable, Any]) -> bool:
    """Whether guidance lowers FD of the net that chooses at all: if not, more would not, either.

    Where the base model was not measured nothing is known, and the edge counts.
    """
    column, rows = f"fd_{tier.report.nets[0]}", complete(metrics)
    if row["method"] != "cfg" or column not in rows:
        return True
    grid = rows[(rows["model"] == row["model"]) & (rows["stage"] == GRID)]
    guided = grid[(grid["method"] == "cfg") & (grid["guidance"] == row["guidance"])]
    base = grid[(grid["method"] == "base") & grid["seed"].isin(guided["seed"])]
    return bool(base.empty or guided.empty or guided[column].mean() < base[column].mean())


def _settings(text: Any) -> dict[str, Any]:
    """Hyperparameters by dotted key, such as ``optimizer.ema.std``."""
    return dotted(json.loads(text))


def _without(settings: dict[str, Any], key: str) -> dict[str, Any]:
    """What a value is compared with has all else alike: another sweep says nothing of this one."""
    return {name: value for name, value in settings.items() if name != key}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bound(tier: Tier, row: Mapping[Hashable, Any], key: str, value: float) -> bool:
    """Whether nothing beyond the value is allowed, such as K = 1."""
    return any(
        value in _bounds(run, key)
        for run in tier.tuned.values()
        if run.model == row["model"] and run.objective.method == row["method"]
    )


def _constraints(field: FieldInfo) -> list[Any]:
    """Of a field, of the kinds of value that it may have, and of the values of a list."""
    kinds = get_args(field.annotation)
    parts = [part for kind in kinds for part in getattr(kind, "__metadata__", ())]
    inner = [one for part in parts if isinstance(part, FieldInfo) for one in part.metadata]
    return [*field.metadata, *inner]


def _bounds(run: FineTuning, key: str) -> set[float]:
    *above, key = key.split(".")
    sections: list[Any] = [run, run.objective, *([run.noise] if run.noise else [])]
    for name in above:
        sections = [getattr(section, name) for section in sections if hasattr(section, name)]
    sections = [section for section in sections if section is not None]
    constraints = [
        constraint
        for section in sections
        for name, field in type(section).model_fields.items()
        if key in (name, field.alias)
        for constraint in _constraints(field)
    ]
    ends = (getattr(c, bound, None) for c in constraints for bound in ("ge", "le"))
    return {float(end) for end in ends if end is not None}
