"""The best checkpoint of an experiment among a tier's results, and all that is known of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import load_tensors, read_json
from mclr.jobs.selection import best_point
from mclr.models.config import Model
from mclr.planning.job import Reads
from mclr.planning.plan import Plan
from mclr.planning.points import Point, Run
from mclr.report.methods import with_entries
from mclr.settings.section import canonical


@dataclass(frozen=True)
class Source:
    """The checkpoint that is exported, and all that is known of it.

    spec: what its training job was given. base_run: the run of the base model.
    """

    tier: Tier
    run: Run
    base_run: Run
    step: int
    spec: dict[str, Any]
    weights: Path
    tokenizer: Path | None
    manifest: dict[str, Any]
    parameters: int
    averaged: bool = False
    """Whether the weights are an average that the run kept."""

    @property
    def model(self) -> Model:
        return self.tier.models[self.run.model]

    @property
    def results(self) -> Path:
        return Path("results", self.tier.tier)

    @property
    def grid(self) -> Path:
        """The image grid of the checkpoint, without guidance."""
        point = Point(self.run, self.step, 0.0, self.run.seed, averaged=self.averaged)
        if not self.run.settings:
            point = Point(self.run, self.step, 0.0, self.tier.seeds[0])
        return self.results / "grids" / point.path / "shard-000.png"


def find_source(tier: Tier, experiment: str) -> Source:
    """The best checkpoint of an experiment, and the run of the tier that made it."""
    plan = Plan(tier)
    if experiment not in plan.experiments:
        known = ", ".join(plan.experiments)
        raise UserError(
            f"experiment {experiment!r}: tier {tier.tier} has none; choose from {known}"
        )
    first = plan.of(experiment)[0]
    base_run = plan.runs[f"{first.model}-base"]
    place = plan.files.best(experiment)
    if not first.settings:  # a base, or a network that others fine-tuned
        place = plan.weights(Point(first, first.checkpoints[-1], 0.0, first.seed))
    weights = Path(place)
    tensors, metadata = load_tensors(weights)
    averaged = metadata.get("weights") == "average"
    run = _run_of(plan, experiment, metadata, weights).measured_as(averaged)
    if run.has_dial:
        run = run.turned(_chosen_value(plan, experiment))
    reads = Reads(plan)
    tokenizer = reads.tokenizer_of(run.model)
    return Source(
        tier=with_entries(tier, Path("results", tier.tier)),
        run=run,
        base_run=base_run,
        step=int(metadata["step"]),
        spec=json.loads(metadata["spec"]),
        weights=weights,
        tokenizer=Path(tokenizer[0]) if tokenizer else None,
        manifest=read_json(Path(reads.manifest_of(run.model)), "shape", "splits"),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        averaged=averaged,
    )


def _chosen_value(plan: Plan, experiment: str) -> float:
    """Where the dial of the best checkpoint gives the lowest FD."""
    found = best_point(Path(plan.files.evaluation(experiment)), plan.tier.report.nets[0])
    return float(found["hyperparameters"]["dial"])


def _run_of(plan: Plan, experiment: str, metadata: dict[str, str], weights: Path) -> Run:
    """The run whose job, as the tier plans it now, is the one that made the checkpoint."""
    for run in plan.of(experiment):
        spec = plan.taken_spec(run.run_id) if run.taken else plan.training_spec(run.run_id)
        if canonical(spec) == metadata.get("spec") and "step" in metadata:
            return run
    raise UserError(
        f"{weights}: was not made by this configuration of {experiment}; give the one it was made "
        f"with (results/{plan.tier.tier}/config.yaml), or run `snakemake` to make it again"
    )


def without_places(content: Any) -> Any:
    """Settings with the names alone of files and folders: who gets the model needs no more."""
    if not isinstance(content, dict):
        return content
    return {
        key: Path(value).name
        if key in ("path", "released", "implementation") and isinstance(value, str)
        else without_places(value)
        for key, value in content.items()
    }
