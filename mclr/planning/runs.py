"""The runs of a tier: its bases, and of each experiment one per seed and swept setting."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from mclr.config.objectives import FineTuning
from mclr.config.released import Released
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.points import Run


def base_runs(tier: Tier) -> list[Run]:
    """The base of each model; weights that others trained count as step 0 of seed 0."""
    runs = []
    for name, model in tier.models.items():
        trained = None if isinstance(model.base, Released) else model.base
        seed, step = (trained.seed, trained.steps) if trained else (0, 0)
        runs.append(Run(f"{name}-base", f"{name}-base", name, "base", seed, (step,), None))
    return runs


def fine_tuning_runs(name: str, settings: FineTuning, seeds: list[int]) -> list[Run]:
    """A run for every combination of the swept values, and every seed."""
    runs = []
    for values in itertools.product(*settings.sweep.values()):
        swept = dict(zip(settings.sweep, values, strict=True))
        variant = _override(name, settings, swept)
        suffix = "".join(f"-{key.rsplit('.', 1)[-1]}{value:g}" for key, value in swept.items())
        for seed in seeds:
            run_id = f"{name}{suffix}-seed{seed}"
            method, steps = variant.objective.method, tuple(variant.checkpoints)
            runs.append(Run(run_id, name, variant.model, method, seed, steps, variant))
    return runs


def final_runs(first: Run, seeds: list[int]) -> list[Run]:
    """The selected point of an experiment, trained again with each of the final seeds.

    first: a run of its grid. A base model, which is not trained again, stays as it is.
    """
    if first.is_base:
        return [first]
    name = first.experiment
    return [
        replace(first, run_id=f"{name}-final-seed{s}", seed=s, checkpoints=(), is_final=True)
        for s in seeds
    ]


def _override(name: str, settings: FineTuning, swept: dict[str, Any]) -> FineTuning:
    """The experiment with the swept keys (``lr``, ``objective.beta``) set."""
    content = settings.model_dump(by_alias=True)
    for key, value in swept.items():
        *parents, last = key.split(".")
        section: Any = content
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or not isinstance(section.get(last), int | float):
            raise UserError(
                f"runs.{name}.sweep.{key}: expected numbers for a key of this run, such as lr or "
                f"objective.{'/'.join(k for k in content['objective'] if k != 'name')}"
            )
        section[last] = value
    try:
        return FineTuning.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        raise UserError(f"runs.{name}.sweep: {swept}: {item['msg']}") from None
