"""A tier: one experiment at one size, with its evaluation, studies and report."""

from __future__ import annotations

import math
import operator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from mclr.config.evaluation import Evaluation, Report, Separation, Study
from mclr.config.objectives import FineTuning, ReleasedTuning, Tuning
from mclr.config.recipes import family_of, fitting
from mclr.models.config import Model
from mclr.settings.data import Data, OwnImages
from mclr.settings.features import FeatureNet
from mclr.settings.section import Count, Name, Section, Seed

IMAGE_SEEDS = 2**30
"""Seeds of evaluated images lie below; the seeds of all other images lie above."""


POINTS = 100_000
"""Evaluated in a tier, without its studies."""

RESERVED = ("-base", "-final", "-study", "-real")
"""Endings of evaluations that an experiment cannot have in its name."""


def _different(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ, got {seeds}")
    return seeds


class Final(Section):
    """The best point of each experiment, again: other training seeds, other image noise.

    Each seed trains once more with the selected hyperparameters up to the selected step, and its
    samples come from the block of that seed. The selection itself used the seeds of the tier.

    bases: how many base models are trained for these rows, with the first so many of ``seeds``.
    The row of a seed starts from its own base where there are as many as seeds, else they take
    turns; its base and CFG rows sample the same one. Without it all start from the model's one.
    """

    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_different)]
    bases: Count | None = Field(default=None, exclude_if=operator.not_)

    @model_validator(mode="after")
    def _few_bases(self) -> Final:
        if self.bases and self.bases > len(self.seeds):
            raise ValueError(
                f"bases {self.bases}: expected at most one for each of the {len(self.seeds)} seeds"
            )
        return self

    def base_seed(self, seed: int) -> int | None:
        """The seed that trains the base of a row; None where it is the model's own base."""
        return self.seeds[self.seeds.index(seed) % self.bases] if self.bases else None


def _free(tier: str) -> str:
    if tier in ("theory", "logs"):
        raise ValueError(f"results/{tier}/ has another use; choose another name")
    return tier


class Tier(Section):
    """One experiment at one size: data, models, fine-tuning runs, evaluation and report."""

    tier: Annotated[Name, AfterValidator(_free)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_different)]
    data: Annotated[Data | OwnImages, Field(discriminator="source")]
    features: Annotated[dict[Name, FeatureNet], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    runs: dict[Name, Tuning]
    final: Final | None = None
    studies: dict[Name, Study] = Field(default={})
    separation: Separation | None = None
    evaluation: Evaluation
    report: Report

    @property
    def tuned(self) -> dict[str, FineTuning]:
        """The experiments that train."""
        return {n: run for n, run in self.runs.items() if isinstance(run, FineTuning)}

    @property
    def released(self) -> dict[str, ReleasedTuning]:
        """The networks that others fine-tuned."""
        return {n: run for n, run in self.runs.items() if isinstance(run, ReleasedTuning)}

    @property
    def _final_seeds(self) -> list[int]:
        return self.final.seeds if self.final else []

    @model_validator(mode="after")
    def _other_seeds(self) -> Tier:
        shared = sorted(set(self.seeds) & set(self._final_seeds))
        if shared:
            raise ValueError(
                f"final.seeds: {shared} are among seeds too; expected others, so that what was "
                "selected is measured on other images"
            )
        return self

    @model_validator(mode="after")
    def _shown_classes(self) -> Tier:
        classes, shown = self.data.classes, self.evaluation.grid_classes
        if classes is not None and shown and max(shown) >= classes:
            raise ValueError(
                f"evaluation.grid_classes: {max(shown)} of {classes} classes; labels begin with 0"
            )
        return self

    @model_validator(mode="after")
    def _few_images(self) -> Tier:
        images = (max([*self.seeds, *self._final_seeds]) + 1) * self.evaluation.n_samples
        if images > IMAGE_SEEDS:
            raise ValueError(
                f"seeds: (largest seed + 1) · evaluation.n_samples is {images}, "
                f"expected at most 2^30 = {IMAGE_SEEDS}; use smaller seeds"
            )
        return self

    @model_validator(mode="after")
    def _few_points(self) -> Tier:
        """Every one is a job or more, and has a folder."""
        many, scales = len(self.seeds), (len(model.guidance) + 1 for model in self.models.values())
        tuned = (
            len(run.checkpoints or run.epochs or ())
            * math.prod(map(len, run.sweep.values()))
            * len(run.dial or [1])
            for run in self.tuned.values()
        )
        points = many * (sum(scales) + sum(tuned) + len(self.released))
        if points > POINTS:
            raise ValueError(f"{points:,} points would be evaluated; expected at most {POINTS:,}")
        return self

    @model_validator(mode="after")
    def _references(self) -> Tier:
        for name, run in self.runs.items():
            if run.model not in self.models:
                raise ValueError(_unknown(f"runs.{name}.model", run.model, self.models))
            if isinstance(run, FineTuning):
                self._check_start(name)
                self._check_dial(name, run)
                self._check_recipe(name, run)
            if (
                isinstance(run, FineTuning)
                and run.objective.needs.noisy
                and self.models[run.model].noise is None
            ):
                raise ValueError(
                    f"runs.{name}: {run.objective.method} needs a diffusion model (with exact "
                    "likelihoods its optimum is the conditional model itself, without guidance); "
                    "use mclr"
                )
            if name.endswith(RESERVED):
                raise ValueError(f"runs.{name}: names ending in {', '.join(RESERVED)} are taken")
            if name in self.models:
                raise ValueError(f"runs.{name}: the name of a model is taken; choose another")
        for where, net in (
            ("report.features", self.report.nets[0]),
            ("report.features", self.report.nets[1]),
            ("evaluation.isc_features", self.evaluation.isc_features),
        ):
            if net not in self.features:
                raise ValueError(_unknown(where, net, self.features))
        return self

    @model_validator(mode="after")
    def _transforms(self) -> Tier:
        for name, model in self.models.items():
            if model.transform is None:
                continue
            where = f"models.{name}.transform"
            if self.data.source != "images":
                raise ValueError(f"{where}: images of {self.data.source} are square; remove it")
            if not model.has_coder:
                raise ValueError(
                    f"{where}: models of pixels share their images; use data.transform"
                )
        return self

    @model_validator(mode="after")
    def _own_bases(self) -> Tier:
        """Rounds of a final row lead back to its own base, so each of them has final rows."""
        if self.final and self.final.bases:
            for name, run in self.tuned.items():
                if run.final and run.start and not self.tuned[run.start].final:
                    raise ValueError(
                        f"runs.{name}.from: with final.bases, {run.start} needs final rows, too; "
                        f"remove `final: false` there, or set it here"
                    )
        return self

    def _check_recipe(self, name: str, run: FineTuning) -> None:
        """ValueError unless a run's recipe is one for models of its family."""
        family = self.models[run.model].family
        if run.recipe and run.recipe not in (names := fitting(family)):
            raise ValueError(
                f"runs.{name}.recipe: {run.recipe} is of {family_of(run.recipe)} models, but "
                f"{run.model} is of family {family}; "
                + (f"choose from {', '.join(names)}" if names else "write its values out")
            )

    def _check_start(self, name: str) -> None:
        """ValueError unless the rounds of an experiment lead back to the base of its model."""
        seen = [name]
        while start := self.tuned[seen[-1]].start:
            where = f"runs.{seen[-1]}.from"
            if start not in self.tuned:
                raise ValueError(_unknown(where, start, self.tuned))
            if start in seen:
                raise ValueError(f"{where}: {start} starts from {seen[-1]} itself")
            if self.tuned[start].objective.needs.dial:
                raise ValueError(f"{where}: {start} has a dial; start from a network without one")
            if self.runs[start].model != self.runs[name].model:
                raise ValueError(f"{where}: {start} fine-tunes another model")
            seen.append(start)

    def _check_dial(self, name: str, run: FineTuning) -> None:
        """ValueError unless values of a dial are given where there is one, and nowhere else."""
        has_dial = run.objective.needs.dial
        if has_dial and not self.models[run.model].has_dial:
            raise ValueError(
                f"runs.{name}.objective.beta: networks of models.{run.model} cannot take β as an "
                "input (those of families edm2 and var can); give a number above 0 and up to 1"
            )
        if has_dial and not run.dial:
            raise ValueError(
                f"runs.{name}.dial: β is an input, so say at which values to measure the network, "
                "such as [0.25, 0.5, 1]"
            )
        if run.dial and not has_dial:
            raise ValueError(
                f"runs.{name}.dial: is of gft with `beta: input` alone; remove it (weights between "
                "base model and checkpoint are studies.<run>.dial)"
            )

    @model_validator(mode="after")
    def _studies(self) -> Tier:
        bases = {f"{name}-base": model for name, model in self.models.items()}
        known = bases | {name: self.models[run.model] for name, run in self.runs.items()}
        for name, study in self.studies.items():
            if name not in known:
                raise ValueError(_unknown("studies", name, known))
            tuned = self.tuned.get(name)
            if name in self.runs and not (tuned and tuned.objective.method == "mclr"):
                raise ValueError(
                    f"studies.{name}: studies are of base models and of plain MCLR; remove this one"
                )
            wanted = {"network"} if study.autoguidance else set()
            wanted |= {"interval"} if study.interval else set()
            if wanted - known[name].guided_by:
                raise ValueError(
                    f"studies.{name}: autoguidance and interval need a diffusion model, and an "
                    "interval its Heun sampler; remove them"
                )
            if name in bases and (study.guidance or study.dial or study.autoguidance):
                raise ValueError(
                    f"studies.{name}: a base model has an interval alone (its CFG scales are "
                    "models.<model>.guidance, and there is nothing to mix it with)"
                )
        return self


def _unknown(where: str, got: str, known: Any) -> str:
    return f"{where}: unknown name {got!r}; choose from {', '.join(sorted(known))}"
