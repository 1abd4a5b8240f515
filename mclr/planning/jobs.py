"""Every job of a tier: which file is made by which job from which others, written once.

The rules of the workflow take names from here, and ``mclr plan`` walks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from mclr.data.releases import FOLDER
from mclr.errors import UserError
from mclr.planning.job import Job, flat
from mclr.planning.model_jobs import ModelJobs
from mclr.planning.points import Run
from mclr.planning.result_jobs import ResultJobs

RESULTS = ("table1", "figures", "claims", "report", "track")


class Jobs(ModelJobs, ResultJobs):
    """The jobs of a plan: one at a time, by what it is for, or all of them."""

    def behind(self, targets: Sequence[str] = ()) -> list[Job]:
        """Every job of ``snakemake all``, or of some targets: results (``table1``) or evaluations.

        Raises:
            UserError: no such target.
        """
        asked = [self._target(target) for target in targets]
        best = [f"best:{experiment}" for experiment in self.kept]
        found, pending = set(), asked or [*RESULTS, *best]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += self.needs(self.by_name[name])
        return [job for name, job in self.by_name.items() if name in found]

    @property
    def kept(self) -> list[str]:
        """Experiments with a row in Table 1, whose best checkpoints ``all`` makes, too."""
        return [name for name, settings in self.tier.tuned.items() if settings.final]

    def needs(self, job: Job) -> list[str]:
        """Names of the jobs that make what a job reads; nothing makes a file of the user's own."""
        if job.name not in self._needs:
            makers = map(self._makers.get, flat(job.inputs))
            self._needs[job.name] = [*dict.fromkeys(maker for maker in makers if maker)]
        return self._needs[job.name]

    @cached_property
    def by_name(self) -> dict[str, Job]:
        """Every job that there is, in the order in which data flow."""
        return {job.name: job for job in self._all()}

    @cached_property
    def _needs(self) -> dict[str, list[str]]:
        """What was found of jobs so far; a job of a name is always the same."""
        return {}

    @cached_property
    def _makers(self) -> dict[str, str]:
        """Of each file that a job makes, the job."""
        return {file: job.name for job in self.by_name.values() for file in flat(job.outputs)}

    def maker_of(self, run: Run) -> Job:
        """The job that makes the checkpoints of a run."""
        if run.taken:
            return self.take_over(run.run_id)
        if run.is_base:
            is_own = run.is_final
            return self.final_base(run.run_id) if is_own else self.network("base", run.model)
        return self.finetune(run.run_id)

    def final_bases(self, model: str) -> list[Run]:
        """The bases that are trained for the final rows of a model."""
        return [run for run in self.plan.all_of(f"{model}-base") if run.is_final]

    def _target(self, target: str) -> str:
        """The job that makes a target."""
        if target not in RESULTS and target not in self.plan.evaluations:
            known = ", ".join([*RESULTS, *self.plan.evaluations])
            raise UserError(f"--target: unknown name {target!r}; choose from {known}")
        return target if target in RESULTS else f"evaluate:{target}"

    def _all(self) -> Iterator[Job]:
        yield from self._of_data()
        for model in self.tier.models:
            yield from self._of_model(model)
        for run in (self.plan.runs[name] for name in self.tier.released):
            yield from self._fetched(self.take_over(run.run_id))
            yield self.take_over(run.run_id)
        runs = [run for run in self.plan.runs.values() if run.settings]
        yield from (self.negatives(start) for start in self._contrasted(runs))
        yield from (self.finetune(run.run_id) for run in runs)
        for path in self.points:
            yield from (self.sample(path, shard) for shard in self.shards)
        yield from (self.evaluate(evaluation) for evaluation in self.plan.evaluations)
        for experiment in self.plan.experiments:
            yield self.select(experiment)
            if experiment in self.tier.tuned:
                yield self.best(experiment)
        yield from (self.effective_config(), self.metrics(), self.claims(), self.table1())
        yield from (self.figures(), self.similarity())
        if self.tier.separation:
            yield from (self.separation(model) for model in self.tier.models)
        yield from (self.report(), self.track())

    def _of_data(self) -> Iterator[Job]:
        if not self.is_own:
            yield self.fetch()
        sizes = (model.resolution for model in self.tier.models.values())
        yield from (self.prepare(size) for size in dict.fromkeys([None, *sizes]))
        for folder in self.plan.nets:
            job = self.net(folder)
            yield from self._fetched(job)
            yield job

    def _of_model(self, model: str) -> Iterator[Job]:
        if self.tier.models[model].has_coder:
            job = self.tokenizer(model)
            yield from self._fetched(job)
            yield from (job, self.encode(model))
        elif (side := self.pixels_side(model)) is not None:
            yield self.encode_pixels(side)
        for role in self.roles(model):
            job = self.network(role, model)
            yield from self._fetched(job)
            yield job
        yield from (self.final_base(run.run_id) for run in self.final_bases(model))
        yield self.floors(model)

    def _fetched(self, job: Job) -> Iterator[Job]:
        """The jobs that fetch what a job takes over; the user's own copies are not fetched."""
        for file in flat(job.inputs):
            if file.startswith(f"{FOLDER}/"):
                yield self.fetch_released(file.removeprefix(f"{FOLDER}/"))

    def _contrasted(self, runs: Iterable[Run]) -> list[str]:
        """What runs start from that contrast with samples of it."""
        return list(dict.fromkeys(run.start for run in runs if self.needs_negatives(run)))
