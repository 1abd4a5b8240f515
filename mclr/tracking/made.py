"""What a run was made with, by its own records: a configuration may have been edited since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.planning.points import Run
from mclr.settings.section import canonical

IDENTITY = ("model", "method", "seed", "hyperparameters")


@dataclass(frozen=True)
class Made:
    """A run's model, method and seed, and its hyperparameters.

    known: whether ``provenance.json`` says so; else they are as planned. other: what the
    configuration has now instead, in words; '' where it is the same.
    """

    model: str
    method: str
    seed: int
    hyperparameters: dict[str, Any]
    known: bool = False
    other: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        """As MLflow has them."""
        about = {"model": self.model, "method": self.method, "seed": self.seed}
        return {**about, **self.hyperparameters}


def made_with(plan: Plan, run: Run, provenance: Mapping[str, Any]) -> Made:
    """What a run was made with; ``provenance``: the content of its file, empty before it ends."""
    planned = Made(run.model, run.method, run.seed, run.hyperparameters)
    if any(key not in provenance for key in IDENTITY):
        return planned
    model, method, seed, hyperparameters = (provenance[key] for key in IDENTITY)
    made = Made(model, method, seed, hyperparameters, known=True)
    chosen = _swept(plan, run) if run.is_final and run.settings else set()
    before, now = made.parameters, planned.parameters
    if run.is_final and len(run.evaluated) > 1:  # one of the two kinds of weights was selected
        for averaged in run.evaluated:
            how = run.measured_as(averaged).hyperparameters["optimizer"]
            now |= {"optimizer": how} if how == before.get("optimizer") else {}
    other = ", ".join(
        f"{key} {before.get(key, 'absent')}, now {now.get(key, 'absent')}"
        for key in {**before, **now}
        if key not in chosen and before.get(key) != now.get(key)
    )
    if not other and not run.is_final:
        digest = provenance.get("config_sha256")
        other = "" if digest in (None, _digest(plan, run) or digest) else "its network or training"
    return replace(made, other=other)


def _swept(plan: Plan, run: Run) -> set[str]:
    """Hyperparameters that a final run has of what was selected."""
    return {key.rpartition(".")[2] for key in plan.tier.tuned[run.experiment].sweep}


def _digest(plan: Plan, run: Run) -> str | None:
    """Of the specification that the run would have now; None without the file of its class."""
    try:
        spec = plan.training_spec(run.run_id)
    except UserError:
        return None
    return hashlib.sha256(canonical(spec).encode()).hexdigest()
