"""The jobs of a tier and what each waits for, as ``workflow/rules`` have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mclr.config.models import Edm2Model
from mclr.plan import Plan
from mclr.points import GRID, Point, Run, net_folder


@dataclass(frozen=True)
class Job:
    """A job: its rule, what of the tier it is for, and the names of the jobs before it."""

    rule: str
    subject: str = ""
    needs: tuple[str, ...] = ()
    point: Point | None = None
    shard: int = 0

    @property
    def name(self) -> str:
        return f"{self.rule}:{self.subject}" if self.subject else self.rule


def jobs_of(plan: Plan) -> list[Job]:
    """Every job of ``snakemake all``."""
    jobs = [
        *_data_jobs(plan),
        *(job for model in plan.tier.models for job in _model_jobs(plan, model)),
        *(_training_job(plan, run) for run in plan.runs.values() if not run.is_base),
        *(job for point in points_of(plan).values() for job in _sampling_jobs(plan, point)),
        *_evaluation_jobs(plan),
        *_result_jobs(plan),
    ]
    asked = sorted({need for job in jobs for need in job.needs if need.startswith("select:")})
    chosen = (name.removeprefix("select:") for name in asked)
    return jobs + [Job("select", e, (f"evaluate:{e}",)) for e in chosen]


def points_of(plan: Plan) -> dict[str, Point]:
    """Every point to sample, by its path."""
    return {p.path: p for points in plan.evaluations.values() for p in points}


def has_encoder(plan: Plan, model: str) -> bool:
    """Whether a model works on tokens or latents instead of pixels."""
    settings = plan.tier.models[model]
    return not isinstance(settings, Edm2Model) or settings.autoencoder is not None


def contrasted(plan: Plan) -> dict[str, None]:
    """Models that DDO fine-tunes: their samples are its negatives."""
    return {run.model: None for run in plan.runs.values() if _is_ddo(run)}


def _is_ddo(run: Run) -> bool:
    return run.settings is not None and run.settings.objective.name == "ddo"


def _data(plan: Plan, model: str) -> str:
    resolution = plan.tier.models[model].resolution
    return f"prepare_smaller:{resolution}" if resolution else "prepare"


def _nets(plan: Plan, model: str) -> list[str]:
    resolution = plan.tier.models[model].resolution
    return [f"feature_net:{net_folder(net, resolution)}" for net in plan.tier.features]


def _coder(plan: Plan, model: str) -> list[str]:
    return [f"tokenizer:{model}"] if has_encoder(plan, model) else []


def _encoded(plan: Plan, model: str) -> list[str]:
    return [f"encode:{model}"] if has_encoder(plan, model) else []


def _data_jobs(plan: Plan) -> Iterator[Job]:
    yield Job("fetch")
    yield Job("prepare", needs=("fetch",))
    for size in {m.resolution: None for m in plan.tier.models.values() if m.resolution}:
        yield Job("prepare_smaller", str(size), ("fetch",))
    for folder, (_, resolution) in plan.nets.items():
        data = f"prepare_smaller:{resolution}" if resolution else "prepare"
        yield Job("feature_net", folder, (data,))


def _model_jobs(plan: Plan, model: str) -> Iterator[Job]:
    data, coder, encoded = _data(plan, model), _coder(plan, model), _encoded(plan, model)
    if coder:
        yield Job("tokenizer", model, (data,))
        yield Job("encode", model, (data, *coder))
    yield Job("base", model, (data, *coder, *encoded))
    if model in contrasted(plan):
        yield Job("negatives", model, (data, f"base:{model}", *coder))
    yield Job("floors", model, (data, *_nets(plan, model)))


def _training_job(plan: Plan, run: Run) -> Job:
    model = run.model
    needs = [_data(plan, model), f"base:{model}", *_coder(plan, model), *_encoded(plan, model)]
    needs += [f"negatives:{model}"] if _is_ddo(run) else []
    if run.is_final:
        return Job("finetune_final", run.run_id, (*needs, f"select:{run.experiment}"))
    return Job("finetune", run.run_id, tuple(needs))


def _trained_by(run: Run) -> str:
    """The job that makes the checkpoints of a run."""
    if run.is_base:
        return f"base:{run.model}"
    return f"finetune_final:{run.run_id}" if run.is_final else f"finetune:{run.run_id}"


def _weights(point: Point) -> str:
    if point.step is None and not point.run.is_final:
        return f"best:{point.run.experiment}"
    return _trained_by(point.run)


def _sampling_jobs(plan: Plan, point: Point) -> Iterator[Job]:
    model = point.run.model
    needs = [_data(plan, model), _weights(point), *_coder(plan, model), *_nets(plan, model)]
    needs += [f"base:{model}"] if point.needs_base else []
    needs += [f"select:{point.run.experiment}"] if point.guidance is None else []
    for shard in range(plan.tier.evaluation.shards):
        yield Job("sample", f"{point.path}:{shard}", tuple(needs), point, shard)


def _samples(plan: Plan, points: list[Point]) -> list[str]:
    shards = range(plan.tier.evaluation.shards)
    return [f"sample:{point.path}:{shard}" for point in points for shard in shards]


def _evaluation_jobs(plan: Plan) -> Iterator[Job]:
    for evaluation, points in plan.evaluations.items():
        run = points[0].run
        needs = [_data(plan, run.model), *_nets(plan, run.model), *_samples(plan, points)]
        needs += [f"select:{run.experiment}"] if points[0].stage != GRID else []
        yield Job("evaluate", evaluation, tuple(needs))
    for experiment in plan.experiments:
        if not plan.of(experiment)[0].is_base:
            runs = [_trained_by(run) for run in plan.of(experiment)]
            yield Job("best", experiment, (f"evaluate:{experiment}", *runs))


def _result_jobs(plan: Plan) -> Iterator[Job]:
    models = list(plan.tier.models)
    evaluations = [f"evaluate:{e}" for e in plan.evaluations]
    floors = [f"floors:{model}" for model in models]
    runs = [_trained_by(run) for run in plan.runs.values()]
    yield Job("effective_config")
    yield Job("metrics", needs=(*evaluations, *floors, *runs))
    known = ("metrics", "effective_config")
    yield Job("claims", needs=known)
    yield Job("table1", needs=known)
    first = [f"sample:{path}:0" for path in points_of(plan)]
    yield Job("figures", needs=(*known, "prepare", *first))
    tuned = [e for model in models for e in plan.tuned_by_mclr(model)]
    compared = [p for e in [*(f"{m}-base" for m in models), *tuned] for p in plan.points(e)]
    yield Job("similarity", needs=(*known, *_samples(plan, compared)))
    apart = [_separation_job(plan, model) for model in models if plan.tier.separation]
    yield from apart
    nets = [f"feature_net:{folder}" for folder in plan.nets]
    shown = ["figures", "claims", "similarity", *(job.name for job in apart), *nets]
    yield Job("report", needs=(*known, *shown))
    yield Job("track", needs=(*known, "table1", "figures", "claims"))


def _separation_job(plan: Plan, model: str) -> Job:
    best = [f"best:{e}" for e in plan.tuned_by_mclr(model)[:1]]
    needs = (_data(plan, model), "metrics", f"base:{model}", *best, *_coder(plan, model))
    return Job("separation", model, needs)
