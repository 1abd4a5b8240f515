"""The jobs of a tier and what each waits for, as ``workflow/rules`` have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mclr.config.models import released_files
from mclr.cost.names import (
    coder_of,
    data_at,
    data_of,
    encoded_of,
    fetched,
    is_own,
    made_by,
    needs_negatives,
    net_job,
    net_releases,
    nets_of,
    own_side,
    start_of,
    trained_by,
    weights_of,
)
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.planning.points import GRID, Point, Run

RESULTS = ("table1", "figures", "claims", "report", "track")


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


def jobs_of(plan: Plan, targets: Sequence[str] = ()) -> list[Job]:
    """Every job of ``snakemake all``, or of some targets: results (``table1``) or evaluations.

    Raises:
        UserError: no such target.
    """
    jobs = {
        job.name: job
        for some in (
            _data_jobs(plan),
            *(_model_jobs(plan, model) for model in plan.tier.models),
            _negatives_jobs(plan),
            (_training_job(plan, run) for run in plan.runs.values() if not run.is_base),
            *(_sampling_jobs(plan, point) for point in points_of(plan).values()),
            _evaluation_jobs(plan),
            _result_jobs(plan),
        )
        for job in some
    }
    asked = [_target(plan, target) for target in targets]
    needed = _behind(jobs, asked or [*RESULTS, *(n for n in jobs if n.startswith("best:"))])
    return [job for name, job in jobs.items() if name in needed]


def _target(plan: Plan, target: str) -> str:
    """The job that makes a target."""
    if target not in RESULTS and target not in plan.evaluations:
        known = ", ".join([*RESULTS, *plan.evaluations])
        raise UserError(f"--target: unknown name {target!r}; choose from {known}")
    return target if target in RESULTS else f"evaluate:{target}"


def _behind(jobs: dict[str, Job], targets: Iterable[str]) -> set[str]:
    """Names of the targets and of all jobs that they wait for."""
    found: set[str] = set()
    pending = list(targets)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += jobs[name].needs
    return found


def points_of(plan: Plan) -> dict[str, Point]:
    """Every point to sample, by its path."""
    return {p.path: p for points in plan.evaluations.values() for p in points}


def _data_jobs(plan: Plan) -> Iterator[Job]:
    whole = data_at(plan, None)
    raw = () if is_own(plan) else ("fetch",)
    if raw:
        yield Job("fetch")
    yield Job(whole, needs=raw)
    for size in {m.resolution: None for m in plan.tier.models.values() if m.resolution}:
        yield _job(data_at(plan, size), raw or (whole,))
    for folder, (_, resolution) in plan.nets.items():
        files = [file for name in net_releases(plan, folder) for file in fetched(name)]
        yield from (_job(file, ()) for file in files)
        yield _job(net_job(plan, folder), (data_at(plan, resolution), *files))


def _model_jobs(plan: Plan, model: str) -> Iterator[Job]:
    data, coder, encoded = data_of(plan, model), coder_of(plan, model), encoded_of(plan, model)
    if coder:
        yield from _network_jobs(plan, "tokenizer", model, (data,), (data,))
        yield from (_job(name, (data, *coder)) for name in encoded)
    elif encoded:
        side = plan.tier.models[model].resolution or own_side(plan)
        pixels = data_at(plan, None if side == own_side(plan) else side)
        yield from (_job(name, (pixels,)) for name in encoded)
    for role in ("base", "guide"):
        if getattr(plan.tier.models[model], role, None):
            taken, trained = (data, *coder), (data, *coder, *encoded)
            yield from _network_jobs(plan, role, model, taken, trained)
    yield Job("floors", model, (data, *nets_of(plan, model)))


def _network_jobs(
    plan: Plan, role: str, model: str, taken: tuple[str, ...], trained: tuple[str, ...]
) -> Iterator[Job]:
    """What trains a network, or takes it over from those who did; ``taken``: what that needs."""
    name, release = made_by(plan, role, model), released_files(plan.tier.models[model]).get(role)
    files = fetched(release.released) if release else []
    yield from (_job(file, ()) for file in files)
    yield _job(name, (*taken, *files) if release else trained)


def _job(name: str, needs: Iterable[str]) -> Job:
    rule, _, subject = name.partition(":")
    return Job(rule, subject, tuple(needs))


def _negatives_jobs(plan: Plan) -> Iterator[Job]:
    """Samples of what DDO's runs start from."""
    for start in {run.start: None for run in plan.runs.values() if needs_negatives(run)}:
        model = plan.model_of(start)
        needs = (data_of(plan, model), start_of(plan, start), *coder_of(plan, model))
        yield Job("negatives", start, needs)


def _training_job(plan: Plan, run: Run) -> Job:
    model = run.model
    needs = [data_of(plan, model), start_of(plan, run.start)]
    needs += [*coder_of(plan, model), *encoded_of(plan, model)]
    needs += [f"negatives:{run.start}"] if needs_negatives(run) else []
    needs += [f"select:{run.experiment}"] if run.is_final else []
    return _job(trained_by(plan, run), needs)


def _sampling_jobs(plan: Plan, point: Point) -> Iterator[Job]:
    model = point.run.model
    needs = [data_of(plan, model), weights_of(plan, point)]
    needs += [*coder_of(plan, model), *nets_of(plan, model)]
    role = "guide" if plan.guide(point) == "net" else "base" if point.needs_base else ""
    needs += [made_by(plan, role, model)] if role else []
    needs += [f"select:{point.run.experiment}"] if point.guidance is None else []
    for shard in range(plan.tier.evaluation.shards):
        yield Job("sample", f"{point.path}:{shard}", tuple(needs), point, shard)


def _samples(plan: Plan, points: list[Point]) -> list[str]:
    shards = range(plan.tier.evaluation.shards)
    return [f"sample:{point.path}:{shard}" for point in points for shard in shards]


def _evaluation_jobs(plan: Plan) -> Iterator[Job]:
    for evaluation, points in plan.evaluations.items():
        run = points[0].run
        needs = [data_of(plan, run.model), *nets_of(plan, run.model), *_samples(plan, points)]
        needs += [f"select:{run.experiment}"] if points[0].stage != GRID else []
        yield Job("evaluate", evaluation, tuple(needs))
    for experiment in plan.experiments:
        yield Job("select", experiment, (f"evaluate:{experiment}",))
        if not plan.of(experiment)[0].is_base:
            runs = [trained_by(plan, run) for run in plan.of(experiment)]
            yield Job("best", experiment, (f"evaluate:{experiment}", *runs))


def _result_jobs(plan: Plan) -> Iterator[Job]:
    models = list(plan.tier.models)
    evaluations = [f"evaluate:{e}" for e in plan.evaluations]
    floors = [f"floors:{model}" for model in models]
    runs = [trained_by(plan, run) for run in plan.runs.values()]
    yield Job("effective_config")
    yield Job("metrics", needs=(*evaluations, *floors, *runs))
    known = ("metrics", "effective_config")
    yield Job("claims", needs=known)
    yield Job("table1", needs=known)
    first = [f"sample:{path}:0" for path in points_of(plan)]
    yield Job("figures", needs=(*known, data_at(plan, None), *first))
    tuned = [e for model in models for e in plan.tuned_by_mclr(model)]
    compared = [p for e in [*(f"{m}-base" for m in models), *tuned] for p in plan.points(e)]
    yield Job("similarity", needs=(*known, *_samples(plan, compared)))
    apart = [_separation_job(plan, model) for model in models if plan.tier.separation]
    yield from apart
    nets = [net_job(plan, folder) for folder in plan.nets]
    shown = ["figures", "claims", "similarity", *(job.name for job in apart), *nets]
    yield Job("report", needs=(*known, *shown))
    yield Job("track", needs=(*known, "table1", "figures", "claims"))


def _separation_job(plan: Plan, model: str) -> Job:
    best = [f"best:{e}" for e in plan.tuned_by_mclr(model)[:1]]
    needs = (data_of(plan, model), "metrics", made_by(plan, "base", model), *best)
    return Job("separation", model, (*needs, *coder_of(plan, model)))
