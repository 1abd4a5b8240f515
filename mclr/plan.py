"""A tier expanded: which runs, which points, which files, and what each job needs to know.

Pure functions of the configuration; the Snakefile asks here for names and job specifications.
A job's specification holds just the keys the job reads, so that an edit of any other key leaves
the job alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mclr.config import Edm2Model, FineTuning, Model, Tier
from mclr.errors import UserError


@dataclass(frozen=True)
class Run:
    """One training run: a base model, or one fine-tuning job."""

    run_id: str
    experiment: str
    model: str
    method: str
    seed: int
    checkpoints: tuple[int, ...]
    settings: FineTuning | None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What was chosen for this run and could have been chosen otherwise."""
        if self.settings is None:
            return {}
        objective = self.settings.objective.model_dump(by_alias=True, exclude={"name"})
        return {"lr": self.settings.lr, "batch": self.settings.batch, **objective}

    @property
    def is_base(self) -> bool:
        return self.settings is None


@dataclass(frozen=True)
class Point:
    """One evaluated point: a checkpoint of a run, a guidance scale, a block of image seeds."""

    run: Run
    step: int
    guidance: float
    seed: int

    @property
    def path(self) -> str:
        """Folder of this point's files below ``features/`` and ``grids/``."""
        return (
            f"{self.run.experiment}/{self.run.run_id}/step-{self.step:06d}"
            f"/guidance-{self.guidance:g}/seed-{self.seed}"
        )


class Plan:
    """Every run and point of a tier, by name."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.runs = {run.run_id: run for run in _base_runs(tier)}
        for name, settings in tier.runs.items():
            for run in _fine_tuning_runs(name, settings, tier.seeds):
                if run.run_id in self.runs:
                    raise UserError(f"runs.{name}: two runs have the name {run.run_id}")
                self.runs[run.run_id] = run
        self.experiments = list(dict.fromkeys(run.experiment for run in self.runs.values()))

    def of(self, experiment: str) -> list[Run]:
        """The runs of one experiment (an entry of ``runs``, or the base of a model)."""
        return [run for run in self.runs.values() if run.experiment == experiment]

    def points(self, experiment: str) -> list[Point]:
        """The points to evaluate for one experiment.

        A base model is evaluated without guidance and at each guidance scale, for every block of
        image seeds; a fine-tuned model without guidance, on the block of its own seed.
        """
        return [
            Point(run, step, guidance, seed)
            for run in self.of(experiment)
            for step in run.checkpoints
            for guidance in ([0.0, *self.model(run).guidance] if run.is_base else [0.0])
            for seed in (self.tier.seeds if run.is_base else [run.seed])
        ]

    def model(self, run: Run) -> Model:
        """The configuration of the model a run trains."""
        return self.tier.models[run.model]

    # What each job needs to know, and nothing else.

    def tokenizer_spec(self, model: str) -> dict[str, Any]:
        return {"tokenizer": _dump(self.tier.models[model].tokenizer)}  # type: ignore[union-attr]

    def base_spec(self, model: str) -> dict[str, Any]:
        settings = self.tier.models[model]
        run = self.runs[f"{model}-base"]
        return {
            "identity": _identity(run),
            **_network(settings),
            "base": _dump(settings.base),
        } | _likelihood(settings)

    def negatives_spec(self, model: str) -> dict[str, Any]:
        settings = self.tier.models[model]
        wanted = [
            run.settings.objective.n_negatives
            for run in self.runs.values()
            if run.model == model and run.settings and run.settings.objective.name == "ddo"
        ]
        return {
            **_network(settings),
            "sampler": _dump(settings.sampler),
            "n_negatives": max(wanted, default=0),
            "batch": self.tier.evaluation.batch,
        }

    def finetune_spec(self, run_id: str) -> dict[str, Any]:
        run = self.runs[run_id]
        settings = self.model(run)
        return {
            "identity": _identity(run),
            **_network(settings),
            "run": _dump(run.settings) | {"sweep": {}},
            "seed": run.seed,
        } | _likelihood(settings)

    def sample_spec(self, point: Point) -> dict[str, Any]:
        settings = self.model(point.run)
        evaluation = self.tier.evaluation
        return {
            **_network(settings),
            "sampler": _dump(settings.sampler),
            "guidance": point.guidance,
            "seed": point.seed,
            **_dump(evaluation, "n_samples", "batch", "shards", "labels", "grid_rows"),
        }

    def evaluate_spec(self, experiment: str) -> dict[str, Any]:
        """Protocol, and for each point the columns of its row in ``metrics.parquet``."""
        return {
            "tier": self.tier.tier,
            "evaluation": _dump(
                self.tier.evaluation,
                "n_samples",
                "labels",
                "neighbourhood",
                "isc_features",
                "isc_splits",
            ),
            "shards": self.tier.evaluation.shards,
            "points": [self._row(point) for point in self.points(experiment)],
        }

    def _row(self, point: Point) -> dict[str, Any]:
        run = point.run
        return {
            "path": point.path,
            "model": run.model,
            "method": "cfg" if run.is_base and point.guidance else run.method,
            "hyperparameters": run.hyperparameters,
            "seed": point.seed,
            "step": point.step,
            "guidance": point.guidance,
            "nfe": evaluations(self.model(run), point.guidance),
            "checkpoint": checkpoint_path(self.tier.tier, run.run_id, point.step),
            "run_id": run.run_id,
        }


def evaluations(model: Model, guidance: float) -> int:
    """Network evaluations per image (NFE): 2·steps − 1 for Heun, one per scale for VAR; doubled
    with guidance, as the paper counts."""
    if isinstance(model, Edm2Model):
        single = 2 * model.sampler.num_steps - 1
    else:
        single = len(model.tokenizer.network.patch_nums)
    return single * (2 if guidance else 1)


def checkpoint_path(tier: str, run_id: str, step: int) -> str:
    """Where a run keeps the weights of one step."""
    return str(Path("results", tier, "runs", run_id, "checkpoints", f"step-{step:06d}.safetensors"))


def _base_runs(tier: Tier) -> list[Run]:
    return [
        Run(f"{name}-base", f"{name}-base", name, "base", m.base.seed, (m.base.steps,), None)
        for name, m in tier.models.items()
    ]


def _fine_tuning_runs(name: str, settings: FineTuning, seeds: list[int]) -> list[Run]:
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


def _network(model: Model) -> dict[str, Any]:
    """The architecture, and the number type it computes in."""
    network = {"family": model.family, **_dump(model.network)}
    if not isinstance(model, Edm2Model):
        network["tokenizer"] = _dump(model.tokenizer.network)
    return {"network": network, "precision": model.precision}


def _identity(run: Run) -> dict[str, Any]:
    """What a run is called, for its provenance."""
    return {
        "experiment": run.experiment,
        "model": run.model,
        "method": run.method,
        "hyperparameters": run.hyperparameters,
        "seed": run.seed,
    }


def _likelihood(model: Model) -> dict[str, Any]:
    return {"noise": _dump(model.noise)} if isinstance(model, Edm2Model) else {}


def _dump(section: Any, *keys: str) -> dict[str, Any]:
    content = section.model_dump(mode="json", by_alias=True)
    return {key: content[key] for key in keys} if keys else content
