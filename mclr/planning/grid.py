"""A tier expanded into runs and evaluated points; pure functions of the configuration."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from mclr.config.objectives import FineTuning
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.models.config import Model
from mclr.objectives.objective import KIND
from mclr.planning.points import FINAL, STUDY, Point, Run
from mclr.settings.origin import Released


class Grid:
    """Every run and point of a tier, by name."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.runs = {run.run_id: run for run in _base_runs(tier)}
        self.runs |= {run.run_id: run for run in _taken_over(tier)}
        for name, settings in tier.tuned.items():
            for run in _fine_tuning_runs(name, settings, tier.seeds, tier.data.n_train):
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
        """A run for each final seed; what is not trained again stays as it is."""
        first, seeds = self.of(experiment)[0], self.tier.final.seeds if self.tier.final else []
        if first.settings is None:
            return self._final_bases(first) or [first]
        told = self.tier.tuned[experiment]
        if told.epochs and "batch" in told.sweep and told.optimizer:
            raise UserError(
                f"runs.{experiment}.sweep.batch: with `epochs` runs of other batches have other "
                "lengths, so a final run would not know the schedule of the one that was "
                "selected; give `checkpoints`, or an experiment for each batch"
            )
        return [
            replace(
                first,
                run_id=f"{experiment}-final-seed{s}",
                seed=s,
                checkpoints=(),
                is_final=True,
                own_start=self._own_start(told, s),
            )
            for s in seeds
        ]

    def _final_bases(self, first: Run) -> list[Run]:
        """The bases that are trained for final rows alone; none of what others trained."""
        final = self.tier.final
        if final is None or not final.bases or not self._is_trained(first):
            return []
        runs = [
            replace(first, run_id=f"{first.run_id}-seed{seed}", seed=seed, is_final=True)
            for seed in final.seeds[: final.bases]
        ]
        for run in runs:
            if run.run_id in (*self.runs, *self.experiments):
                raise UserError(f"runs.{run.run_id}: is the name of a base; choose another")
        return runs

    def _is_trained(self, run: Run) -> bool:
        return run.is_base and not isinstance(self.model(run).base, Released)

    def _own_start(self, told: FineTuning, seed: int) -> str:
        """The final run that a final run starts from; "" where it starts as the grid does."""
        base = self.runs[f"{told.model}-base"]
        if self.tier.final is None or not self.tier.final.bases or not self._is_trained(base):
            return ""
        if told.start:
            return f"{told.start}-final-seed{seed}"
        return f"{base.run_id}-seed{self.tier.final.base_seed(seed)}"

    def _final_points(self, experiment: str) -> list[Point]:
        """The selected point of each final run; of a base model, with and without guidance."""
        first, seeds = self.of(experiment)[0], self.tier.final.seeds if self.tier.final else []
        if first.settings is None:
            step, scales = first.checkpoints[-1], [0.0, None] if first.is_base else [0.0]
            runs = {run.seed: run for run in self.finals[experiment] if run.is_final}
            final = self.tier.final

            def sampled(seed: int) -> Run:
                own = final.base_seed(seed) if final and runs else None
                return first if own is None else runs[own]

            return [Point(sampled(seed), step, g, seed, FINAL) for g in scales for seed in seeds]
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
        image seeds; a fine-tuned model without guidance, on the block of its own seed, or on
        every block if others tuned it. Where raw weights and their average are both measured, each
        step is two points; where its network has a dial, one for each value.
        """
        return [
            Point(run.measured_as(averaged).turned(value), step, guidance, seed, averaged=averaged)
            for run in self.of(experiment)
            for step, averaged in run.weights
            for value in run.values
            for guidance in ([0.0, *self.model(run).guidance] if run.is_base else [0.0])
            for seed in ([run.seed] if run.settings else self.tier.seeds)
        ]

    def model_of(self, start: str) -> str:
        """The model of a start: its own name, or that of an experiment's runs, or of a run."""
        if start in self.tier.models:
            return start
        return (self.tier.runs if start in self.tier.runs else self.runs)[start].model

    def tuned_by_mclr(self, model: str) -> list[str]:
        """Experiments that fine-tune a model with plain MCLR; its main one comes first."""
        runs = self.tier.tuned.items()
        return [n for n, r in runs if r.model == model and r.objective.method == "mclr"]

    def model(self, run: Run) -> Model:
        """The configuration of the model a run trains."""
        return self.tier.models[run.model]


def _base_runs(tier: Tier) -> list[Run]:
    """The base of each model; weights that others trained count as step 0 of seed 0."""
    runs = []
    for name, model in tier.models.items():
        trained = None if isinstance(model.base, Released) else model.base
        seed, step = (trained.seed, trained.steps) if trained else (0, 0)
        runs.append(Run(f"{name}-base", f"{name}-base", name, "base", seed, (step,), None))
    return runs


def _taken_over(tier: Tier) -> list[Run]:
    """Networks that others fine-tuned count as step 0 of seed 0, as base models of others do."""
    return [
        Run(name, name, taken.model, taken.row, 0, (0,), None, taken=taken)
        for name, taken in tier.released.items()
    ]


def _fine_tuning_runs(
    name: str, settings: FineTuning, seeds: list[int], n_train: int | None
) -> list[Run]:
    runs = []
    for values in itertools.product(*settings.sweep.values()):
        swept = dict(zip(settings.sweep, values, strict=True))
        variant = _in_steps(name, _override(name, settings, swept), n_train)
        suffix = "".join(f"-{key.rsplit('.', 1)[-1]}{value:g}" for key, value in swept.items())
        for seed in seeds:
            run_id = f"{name}{suffix}-seed{seed}"
            method, steps = variant.objective.method, tuple(variant.checkpoints)
            runs.append(Run(run_id, name, variant.model, method, seed, steps, variant))
    return runs


def _in_steps(name: str, settings: FineTuning, n_train: int | None) -> FineTuning:
    try:
        return settings.in_steps(n_train)
    except ValueError as error:
        raise UserError(f"runs.{name}.{error}") from None


def _override(name: str, settings: FineTuning, swept: dict[str, Any]) -> FineTuning:
    """The experiment with the swept keys (``lr``, ``objective.beta``) set."""
    content = settings.model_dump(by_alias=True)
    for key, value in swept.items():
        *parents, last = key.split(".")
        section: Any = content
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        known = section.get(last) if isinstance(section, dict) else None
        if not isinstance(section, dict) or type(known) not in (int, float):
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
