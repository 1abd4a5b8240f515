"""What each job of a tier is told, and nothing else.

A specification holds just what the job reads, so that an edit of any other key leaves it alone.
"""

from __future__ import annotations

from typing import Any

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.models.config import Model
from mclr.models.edm2.config import Guide
from mclr.planning.files import Files, net_folder
from mclr.planning.grid import Grid
from mclr.planning.points import Point, Run
from mclr.planning.specs import (
    BaseSpec,
    EncodeSpec,
    EvaluateSpec,
    FinetuneSpec,
    FloorsSpec,
    NegativesSpec,
    SampleSpec,
    SeparationSpec,
    TokenizerSpec,
)
from mclr.settings.origin import Released
from mclr.settings.section import plain

Content = dict[str, Any]


class Plan(Grid):
    """Every run and point of a tier, where their weights are, and what each job is told."""

    def __init__(self, tier: Tier) -> None:
        super().__init__(tier)
        self.files = Files(tier.tier)

    @property
    def nets(self) -> dict[str, tuple[str, int | None]]:
        """Each feature net at each resolution that a model has, by the name of its folder."""
        sizes = dict.fromkeys(model.resolution for model in self.tier.models.values())
        return {
            net_folder(net, resolution): (net, resolution)
            for resolution in sizes
            for net in self.tier.features
        }

    # Weights.

    def start_checkpoint(self, start: str) -> str:
        """The weights that fine-tuning starts from and compares with."""
        if start in self.tier.runs:
            return self.files.best(start)
        run = self.runs[f"{start}-base" if start in self.tier.models else start]
        if run.settings:
            return self.files.final(run.run_id)
        return self.files.checkpoint(run.run_id, run.checkpoints[-1])

    def guide_checkpoint(self, model: str) -> str:
        """Where the network that guides a model keeps its weights."""
        base = _guide(self.tier.models[model])[0].base
        step = 0 if isinstance(base, Released) else base.steps
        return self.files.checkpoint(f"{model}-guide", step)

    def weights(self, point: Point) -> str:
        """The checkpoint that a point samples."""
        run = point.run
        if run.is_final and run.settings:
            return self.files.final(run.run_id)
        if point.step is None:
            return self.files.best(run.experiment)
        return self.files.checkpoint(run.run_id, point.step, point.averaged)

    def guide(self, point: Point) -> str:
        """What guides a point: "null" label, "base" model, or a "net" of the model's own."""
        has_net = self.model(point.run).guide is not None
        guided = point.guidance is None or point.guidance > 0
        return "net" if point.guide == "null" and has_net and guided else point.guide

    def has_guided_teacher(self, run: Run) -> bool:
        """Whether a run learns from its start's guidance, which a network of its own gives."""
        if run.settings is None or self.model(run).guide is None:
            return False
        needs = run.settings.objective.needs
        return needs.reference and needs.predictions

    # Jobs that train or encode.

    def tokenizer_spec(self, model: str) -> TokenizerSpec:
        """What trains the VQ-VAE, or the autoencoder, of a model that has one."""
        settings = self.tier.models[model]
        return TokenizerSpec.model_validate(settings.coder_spec() | _transform(settings))

    def encode_spec(self, model: str) -> EncodeSpec:
        settings = self.tier.models[model]
        return EncodeSpec.model_validate(_network(settings) | _transform(settings))

    def base_spec(self, model: str) -> BaseSpec:
        settings, run = self.tier.models[model], self.runs[f"{model}-base"]
        about = {"identity": _identity(run), "base": plain(settings.base)}
        return BaseSpec.model_validate(about | _network(settings) | _likelihood(settings))

    def final_base_spec(self, run_id: str) -> BaseSpec:
        """What trains a base of final rows: the model's, with another seed."""
        run = self.runs[run_id]
        spec = self.base_spec(run.model)
        base = plain(self.tier.models[run.model].base) | {"seed": run.seed}
        return spec.with_(identity=_identity(run), base=base)

    def taken_spec(self, run_id: str) -> BaseSpec:
        """What imports a network that others fine-tuned: as a base model of others."""
        run = self.runs[run_id]
        if run.taken is None:
            raise UserError(f"{run_id} is trained here; it takes nothing over")
        spec = self.base_spec(run.model)
        return spec.with_(identity=_identity(run), base={"released": run.taken.released})

    def guide_spec(self, model: str) -> BaseSpec:
        """What trains, or imports, the network that guides a model."""
        guide, network = _guide(self.tier.models[model])
        spec = self.base_spec(model)
        named = {"experiment": f"{model}-guide", "method": "guide"}
        identity = spec.identity.model_dump() | named
        return spec.with_(identity=identity, network=network, base=plain(guide.base))

    def finetune_spec(self, run_id: str) -> FinetuneSpec:
        run = self.runs[run_id]
        if run.settings is None:
            raise UserError(f"{run_id} is the run of a base model; it fine-tunes nothing")
        settings, told = self.model(run), plain(run.settings) | {"sweep": {}}
        told.pop("recipe", None)  # what it says is there
        told.pop("dial", None)  # where it is measured changes nothing in training
        about = {"identity": _identity(run), "run": told, "seed": run.seed}
        about |= run.settings.objective.code
        about |= {"guide_network": _guide(settings)[1]} if self.has_guided_teacher(run) else {}
        return FinetuneSpec.model_validate(about | _network(settings) | _likelihood(settings))

    def training_spec(self, run_id: str) -> BaseSpec | FinetuneSpec:
        """What a run that is trained here is told."""
        run = self.runs[run_id]
        if not run.is_base:
            return self.finetune_spec(run_id)
        return self.final_base_spec(run_id) if run.is_final else self.base_spec(run.model)

    # Jobs that sample or measure.

    def negatives_spec(self, start: str) -> NegativesSpec:
        """What samples the model that runs start from: a base model, or a best checkpoint."""
        settings = self.tier.models[self.model_of(start)]
        wanted = [
            run.settings.objective.needs.negatives
            for run in self.runs.values()
            if run.settings and run.start == start
        ]
        counts = {"n_negatives": max(wanted, default=0), "batch": self.tier.evaluation.batch}
        return NegativesSpec.model_validate(counts | _network(settings) | _sampler(settings))

    def sample_spec(self, point: Point) -> SampleSpec:
        settings, guide = self.model(point.run), self.guide(point)
        evaluation = self.tier.evaluation
        how: Content = {
            "guidance": point.guidance,
            "guide": guide,
            "interval": point.interval,
            "dial": point.dial,
            "seed": point.seed,
            **plain(evaluation, "n_samples", "batch", "shards", "labels", "grid_rows"),
        }
        how |= {"grid_classes": evaluation.grid_classes} if evaluation.grid_classes else {}
        how |= {"guide_network": _guide(settings)[1]} if guide == "net" else {}
        how |= {} if point.run.value is None else {"beta": point.run.value}
        content = how | _generation(settings)
        if point.run.has_dial:
            content["network"] |= {"dial": True}
        return SampleSpec.model_validate(content)

    def evaluate_spec(self, evaluation: str) -> EvaluateSpec:
        """Protocol, and for each point the columns of its row in ``metrics.parquet``."""
        content = self._protocol() | {
            "shards": self.tier.evaluation.shards,
            "points": [self._row(point) for point in self.evaluations[evaluation]],
        }
        return EvaluateSpec.model_validate(content)

    def floors_spec(self, model: str) -> FloorsSpec:
        return FloorsSpec.model_validate(self._protocol() | {"models": [model]})

    def separation_spec(self, model: str) -> SeparationSpec:
        settings, study = self.tier.models[model], self.tier.separation
        if study is None:
            raise UserError("separation: the tier has no such section; add it")
        about = {
            "model": model,
            "features": self.tier.report.nets[1],
            "batch": self.tier.evaluation.batch,
            **plain(study),
        }
        content = about | _generation(settings) | _likelihood(settings)
        return SeparationSpec.model_validate(content)

    def _protocol(self) -> Content:
        return {"tier": self.tier.tier, "evaluation": self.tier.evaluation.protocol}

    def _row(self, point: Point) -> Content:
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
            "nfe": self.model(run).nfe_of(point.guidance != 0, point.interval),
            "checkpoint": self.weights(point),
            "run_id": run.run_id,
        }


def _transform(model: Model) -> Content:
    """How the model's own photographs become squares, where not as the tier's."""
    return {} if model.transform is None else {"transform": model.transform}


def _network(model: Model) -> Content:
    """The architecture, and the number type it computes in."""
    return {"network": model.architecture(), "precision": model.precision}


def _guide(model: Model) -> tuple[Guide, Content]:
    """The network that guides a model, and its architecture."""
    if model.guide is None:
        raise UserError(f"models: {model.label} has no guide")
    return model.guide, model.guide_architecture()


def _identity(run: Run) -> Content:
    """What a run is called, for its provenance."""
    return {
        "experiment": run.experiment,
        "model": run.model,
        "method": run.method,
        "hyperparameters": run.hyperparameters,
        "seed": run.seed,
    }


def _generation(model: Model) -> Content:
    """What generates images."""
    return _network(model) | _sampler(model) | _decoding(model)


def _sampler(model: Model) -> Content:
    return {"sampler": plain(model.sampler)} if model.sampler else {}


def _decoding(model: Model) -> Content:
    """How samples become images, where not in float32."""
    return {"decoding": model.decoding} if model.decoding else {}


def _likelihood(model: Model) -> Content:
    return {"noise": plain(model.noise)} if model.noise else {}
