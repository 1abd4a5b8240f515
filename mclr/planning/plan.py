"""A tier expanded: which runs, which points, which files, and what each job needs to know.

Pure functions of the configuration; the Snakefile asks here for names and job specifications.
A job's specification holds just the keys the job reads, so that an edit of any other key leaves
the job alone.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from mclr.config.models import Edm2Model, Guide, Model, OwnModel, VarModel
from mclr.config.objectives import FineTuning
from mclr.config.released import Released
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import sha256
from mclr.models.implementation import source_of
from mclr.objectives.objective import KIND
from mclr.planning.points import (
    FINAL,
    STUDY,
    Point,
    Run,
    best_path,
    checkpoint_path,
    evaluations,
    final_path,
    net_folder,
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
        self.finals = {e: self._final_runs(e) for e in self.experiments if self._is_final(e)}
        for runs in self.finals.values():
            self.runs |= {run.run_id: run for run in runs if run.is_final}
        self.evaluations = {e: self.points(e) for e in self.experiments}
        self.evaluations |= {f"{e}-final": self._final_points(e) for e in self.finals}
        self.evaluations |= {f"{e}-study": self._study_points(e) for e in tier.studies}

    def of(self, experiment: str) -> list[Run]:
        """The runs of one experiment's grid (an entry of ``runs``, or the base of a model)."""
        every = self.runs.values()
        return [run for run in every if run.experiment == experiment and not run.is_final]

    def all_of(self, experiment: str) -> list[Run]:
        """The runs of one experiment: those of its grid, then the final ones."""
        return [run for run in self.runs.values() if run.experiment == experiment]

    def _is_final(self, experiment: str) -> bool:
        run = self.of(experiment)[0]
        return self.tier.final is not None and (run.settings is None or run.settings.final)

    def _final_runs(self, experiment: str) -> list[Run]:
        """A run for each final seed; a base model, which is not trained again, stays as it is."""
        first, seeds = self.of(experiment)[0], self.tier.final.seeds if self.tier.final else []
        if first.is_base:
            return [first]
        return [
            replace(
                first, run_id=f"{experiment}-final-seed{s}", seed=s, checkpoints=(), is_final=True
            )
            for s in seeds
        ]

    def _final_points(self, experiment: str) -> list[Point]:
        """The selected point of each final run; of a base model, with and without guidance."""
        first, seeds = self.of(experiment)[0], self.tier.final.seeds if self.tier.final else []
        if first.is_base:
            step = first.checkpoints[-1]
            return [Point(first, step, g, seed, FINAL) for g in (0.0, None) for seed in seeds]
        return [Point(run, None, 0.0, run.seed, FINAL) for run in self.finals[experiment]]

    def _study_points(self, experiment: str) -> list[Point]:
        """Other ways to sample the best checkpoint, on the image block of its own seed."""
        study, first = self.tier.studies[experiment], self.of(experiment)[0]
        step = first.checkpoints[-1] if first.is_base else None
        seed = self.tier.seeds[0]

        def point(guidance: float, **how: Any) -> Point:
            return Point(first, step, guidance, seed, STUDY, **how)

        found = [point(g) for g in study.guidance]
        found += [point(0.0, dial=t) for t in study.dial]
        found += [point(g, guide="base") for g in study.autoguidance]
        if study.interval:
            bounds = study.interval.low, study.interval.high
            found += [point(g, interval=bounds) for g in study.interval.guidance]
        return found

    def points(self, experiment: str) -> list[Point]:
        """The points of one experiment's grid.

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

    @property
    def nets(self) -> dict[str, tuple[str, int | None]]:
        """Each feature net at each resolution that a model has, by the name of its folder."""
        sizes = dict.fromkeys(model.resolution for model in self.tier.models.values())
        return {
            net_folder(net, resolution): (net, resolution)
            for resolution in sizes
            for net in self.tier.features
        }

    def model_of(self, start: str) -> str:
        """The model of a start: its own name, or that of an experiment's runs."""
        return start if start in self.tier.models else self.tier.runs[start].model

    def start_checkpoint(self, start: str) -> str:
        """The weights that fine-tuning starts from and compares with."""
        if start not in self.tier.models:
            return best_path(self.tier.tier, start)
        run = self.runs[f"{start}-base"]
        return checkpoint_path(self.tier.tier, run.run_id, run.checkpoints[-1])

    def model(self, run: Run) -> Model:
        """The configuration of the model a run trains."""
        return self.tier.models[run.model]

    # What each job needs to know, and nothing else.

    def tokenizer_spec(self, model: str) -> dict[str, Any]:
        """What trains the VQ-VAE, or the autoencoder, of a model that has one."""
        settings = self.tier.models[model]
        if isinstance(settings, VarModel):
            return {"tokenizer": _dump(settings.tokenizer)} | _transform(settings)
        if not isinstance(settings, Edm2Model):
            raise UserError(f"models.{model}: a family of one's own has no tokenizer to train")
        autoencoder = {"autoencoder": _dump(settings.autoencoder), "precision": settings.precision}
        return autoencoder | _transform(settings)

    def encode_spec(self, model: str) -> dict[str, Any]:
        settings = self.tier.models[model]
        return _network(settings) | _transform(settings)

    def base_spec(self, model: str) -> dict[str, Any]:
        settings = self.tier.models[model]
        run = self.runs[f"{model}-base"]
        return {
            "identity": _identity(run),
            **_network(settings),
            "base": _dump(settings.base),
        } | _likelihood(settings)

    def guide_spec(self, model: str) -> dict[str, Any]:
        """What trains, or imports, the network that guides a model."""
        settings, base = self.tier.models[model], self.base_spec(model)
        guide, network = _guide(settings)
        identity = base["identity"] | {"experiment": f"{model}-guide", "method": "guide"}
        return base | {"identity": identity, "network": network, "base": _dump(guide.base)}

    def guide_checkpoint(self, model: str) -> str:
        """Where the network that guides a model keeps its weights."""
        base = _guide(self.tier.models[model])[0].base
        step = 0 if isinstance(base, Released) else base.steps
        return checkpoint_path(self.tier.tier, f"{model}-guide", step)

    def negatives_spec(self, start: str) -> dict[str, Any]:
        """What samples the model that runs start from: a base model, or a best checkpoint."""
        settings = self.tier.models[self.model_of(start)]
        wanted = [
            run.settings.objective.needs.negatives
            for run in self.runs.values()
            if run.settings and run.start == start
        ]
        return {
            **_network(settings),
            **_sampler(settings),
            "n_negatives": max(wanted, default=0),
            "batch": self.tier.evaluation.batch,
        }

    def finetune_spec(self, run_id: str) -> dict[str, Any]:
        run = self.runs[run_id]
        settings = self.model(run)
        return {
            "identity": _identity(run),
            **_network(settings),
            "run": _without_absent(_dump(run.settings), "from") | {"sweep": {}},
            "seed": run.seed,
            **(run.settings.objective.code if run.settings else {}),
        } | _likelihood(settings)

    def sample_spec(self, point: Point) -> dict[str, Any]:
        settings = self.model(point.run)
        evaluation = self.tier.evaluation
        return {
            **_network(settings),
            **_sampler(settings),
            **_decoding(settings),
            "guidance": point.guidance,
            "guide": self.guide(point),
            "interval": point.interval,
            "dial": point.dial,
            "seed": point.seed,
            **_dump(evaluation, "n_samples", "batch", "shards", "labels", "grid_rows"),
            **({"grid_classes": evaluation.grid_classes} if evaluation.grid_classes else {}),
        } | ({"guide_network": _guide(settings)[1]} if self.guide(point) == "net" else {})

    def guide(self, point: Point) -> str:
        """What guides a point: "null" label, "base" model, or a "net" of the model's own."""
        has_net = getattr(self.model(point.run), "guide", None) is not None
        guided = point.guidance is None or point.guidance > 0
        return "net" if point.guide == "null" and has_net and guided else point.guide

    def evaluate_spec(self, evaluation: str) -> dict[str, Any]:
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
            "points": [self._row(point) for point in self.evaluations[evaluation]],
        }

    def floors_spec(self, model: str) -> dict[str, Any]:
        return {
            "tier": self.tier.tier,
            "evaluation": self.evaluate_spec(f"{model}-base")["evaluation"],
            "models": [model],
        }

    def separation_spec(self, model: str) -> dict[str, Any]:
        settings, study = self.tier.models[model], self.tier.separation
        return {
            **_network(settings),
            **_sampler(settings),
            **_decoding(settings),
            "model": model,
            "features": self.tier.report.nets[1],
            "batch": self.tier.evaluation.batch,
            **(_dump(study) if study else {}),
        } | _likelihood(settings)

    def tuned_by_mclr(self, model: str) -> list[str]:
        """Experiments that fine-tune a model with plain MCLR; its main one comes first."""
        runs = self.tier.runs.items()
        return [n for n, r in runs if r.model == model and r.objective.method == "mclr"]

    def _row(self, point: Point) -> dict[str, Any]:
        run = point.run
        return {
            "path": point.path,
            "model": run.model,
            "method": point.method,
            "stage": point.stage,
            "hyperparameters": run.hyperparameters,
            "seed": point.seed,
            "step": point.step,
            "guidance": point.guidance,
            "dial": point.dial,
            "nfe": evaluations(self.model(run), point.guidance != 0, point.interval),
            "checkpoint": self.weights(point),
            "run_id": run.run_id,
        }

    def weights(self, point: Point) -> str:
        """The checkpoint that a point samples."""
        tier, run = self.tier.tier, point.run
        if run.is_final:
            return final_path(tier, run.run_id)
        if point.step is None:
            return best_path(tier, run.experiment)
        return checkpoint_path(tier, run.run_id, point.step)


def _base_runs(tier: Tier) -> list[Run]:
    """The base of each model; weights that others trained count as step 0 of seed 0."""
    runs = []
    for name, model in tier.models.items():
        trained = None if isinstance(model.base, Released) else model.base
        seed, step = (trained.seed, trained.steps) if trained else (0, 0)
        runs.append(Run(f"{name}-base", f"{name}-base", name, "base", seed, (step,), None))
    return runs


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
                f"objective.{'/'.join(k for k in content['objective'] if k not in KIND)}"
            )
        section[last] = value
    try:
        return FineTuning.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        raise UserError(f"runs.{name}.sweep: {swept}: {item['msg']}") from None


def _transform(model: Model) -> dict[str, Any]:
    """How the model's own photographs become squares, where not as the tier's."""
    if isinstance(model, OwnModel) or model.transform is None:
        return {}
    return {"transform": model.transform}


def _network(model: Model) -> dict[str, Any]:
    """The architecture, and the number type it computes in."""
    if isinstance(model, OwnModel):
        content = sha256(source_of(model.implementation))
        own = _dump(model, "family", "implementation", "options") | {"sha256": content}
        return {"network": own, "precision": model.precision}
    network = {"family": model.family, **_dump(model.network)}
    if not isinstance(model, Edm2Model):
        network["tokenizer"] = _dump(model.tokenizer.network)
    elif isinstance(model.autoencoder, Released):
        network["autoencoder"] = "sd-vae"
    elif model.autoencoder:
        network["autoencoder"] = _dump(model.autoencoder.network)
    return {"network": network, "precision": model.precision}


def _guide(model: Model) -> tuple[Guide, dict[str, Any]]:
    """The network that guides a model, and its architecture."""
    guide = model.guide if isinstance(model, Edm2Model) else None
    if guide is None:
        raise UserError(f"models: {model.label} has no guide")
    network: dict[str, Any] = _network(model)["network"] | _dump(guide.network)
    return guide, network if guide.conditional else network | {"unconditional": True}


def _identity(run: Run) -> dict[str, Any]:
    """What a run is called, for its provenance."""
    return {
        "experiment": run.experiment,
        "model": run.model,
        "method": run.method,
        "hyperparameters": run.hyperparameters,
        "seed": run.seed,
    }


def _sampler(model: Model) -> dict[str, Any]:
    return {} if isinstance(model, OwnModel) else {"sampler": _dump(model.sampler)}


def _decoding(model: Model) -> dict[str, Any]:
    """How samples become images, where not in float32."""
    name = None if isinstance(model, OwnModel) else model.decoding
    return {"decoding": name} if name else {}


def _likelihood(model: Model) -> dict[str, Any]:
    return {"noise": _dump(model.noise)} if isinstance(model, Edm2Model) else {}


def _without_absent(content: dict[str, Any], key: str) -> dict[str, Any]:
    """The content without a key that has no value."""
    return {name: value for name, value in content.items() if name != key or value is not None}


def _dump(section: Any, *keys: str) -> dict[str, Any]:
    content = section.model_dump(mode="json", by_alias=True)
    return {key: content[key] for key in keys} if keys else content
