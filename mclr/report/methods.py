"""The compared methods of a tier: those of the catalogue, and objectives of the user's own.

Light module: no plotting library is imported here, since the workflow reads names while parsing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mclr.config.objectives import ReleasedTuning
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import read_json
from mclr.objectives.catalogue import METHODS, with_others
from mclr.objectives.method import Method
from mclr.objectives.own import Entry, Own
from mclr.settings.section import dotted

SYMBOLS = {"alpha": "α", "beta": "β", "gamma": "γ", "lambda": "λ"}
SYMBOLS |= {"optimizer.ema.evaluate": "weights"}


def methods_of(tier: Tier) -> dict[str, Method]:
    """Every method that results of a tier may name, in the order of tables and legends."""
    own = [run.objective for run in tier.tuned.values() if isinstance(run.objective, Own)]
    released = [_released(run) for run in tier.released.values()]
    return with_others([*(objective.entry for objective in own), *released])


def _released(run: ReleasedTuning) -> Method:
    """The entry of a method whose network others trained, which says so."""
    method = METHODS[run.method]
    return replace(
        method,
        name=run.row,
        suffix=f"{method.suffix}, released weights",
        title=f"{method.title}, released weights",
        trained=False,
    )


def methods_for(tier: Tier, model: str) -> dict[str, Method]:
    """The same as they are called beside one model, and whether they are rows of its table."""
    is_exact = tier.models[model].noise is None
    runs = [run for run in tier.tuned.values() if run.model == model and run.final]
    compared = {run.objective.method for run in runs}
    return {
        name: replace(
            method,
            suffix=method.exact if is_exact and method.exact else method.suffix,
            in_table=method.in_table or (method.if_final and name in compared),
        )
        for name, method in methods_of(tier).items()
    }


def with_entries(tier: Tier, results: Path) -> Tier:
    """The tier with what runs have recorded of objectives of somebody's own: no code is run.

    results: ``results/<tier>``; what has not run yet is called by the name of its class.
    """
    own = {n: r.objective for n, r in tier.tuned.items() if isinstance(r.objective, Own)}
    known: dict[str, Entry] = {}
    for name, objective in own.items():
        if entry := _recorded(name, results / "runs"):
            known[objective.implementation] = entry
    runs: dict[str, Any] = dict(tier.runs)
    for name, objective in own.items():
        entry = known.get(objective.implementation, Entry())
        runs[name] = runs[name].model_copy(update={"objective": objective.with_entry(entry)})
    return tier.model_copy(update={"runs": runs})


def _recorded(experiment: str, runs: Path) -> Entry | None:
    for path in sorted(runs.glob(f"{experiment}-*/provenance.json")):
        content = read_json(path)
        if content.get("experiment") == experiment and "entry" in content:
            try:
                return Entry.model_validate(content["entry"])
            except ValidationError as error:
                item = error.errors()[0]
                where = ".".join(map(str, item["loc"]))
                raise UserError(f"{path}: entry.{where}: {item['msg']}; run it again") from None
    return None


def describe(hyperparameters: str, only: Iterable[str] | None = None) -> str:
    """Words for hyperparameters given as JSON text, such as ``lr=0.0001, β=0.5``.

    With ``only``, the other keys are left out.
    """
    values = dotted(json.loads(hyperparameters))
    keys = [key for key in sorted(values) if only is None or key in set(only)]
    return ", ".join(f"{SYMBOLS.get(key, key)}={_text(values[key])}" for key in keys)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def varying(variants: Iterable[str]) -> set[str]:
    """The hyperparameters in which variants (JSON texts) of one method differ."""
    parsed = [dotted(json.loads(text)) for text in variants]
    keys = {key for values in parsed for key in values}
    return {key for key in keys if len({json.dumps(v.get(key)) for v in parsed}) > 1}
