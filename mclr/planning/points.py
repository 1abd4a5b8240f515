"""What is trained and what is measured: runs, evaluated points, and where their files are."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mclr.config.objectives import FineTuning, ReleasedTuning
from mclr.objectives.objective import KIND
from mclr.settings.section import plain


@dataclass(frozen=True)
class Run:
    """One training run: a base model, or one fine-tuning job; or a network that others tuned.

    A final run has no checkpoints of its own: it trains up to the step that was selected, which
    is known when the grid has been measured; so are its swept hyperparameters. A final run of a
    base model is one of other bases (``final.bases``). ``own_start``: the final run that a final
    run starts from, where it is not what the grid starts from.
    """

    run_id: str
    experiment: str
    model: str
    method: str
    seed: int
    checkpoints: tuple[int, ...]
    settings: FineTuning | None
    is_final: bool = False
    taken: ReleasedTuning | None = None
    value: float | None = None
    """At which the dial of its network stands, of a measured point."""
    own_start: str = ""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What was chosen for this run and could have been chosen otherwise."""
        if self.settings is None:
            return {"released": Path(self.taken.released).name} if self.taken else {}
        objective = self.settings.objective.model_dump(by_alias=True, exclude=KIND)
        noise = self.settings.noise.model_dump() if self.settings.noise else {}
        how = {"optimizer": plain(self.settings.optimizer)} if self.settings.optimizer else {}
        start = {"from": self.settings.start} if self.settings.start else {}
        settings = {"lr": self.settings.lr, "batch": self.settings.batch}
        dial = {} if self.value is None else {"dial": self.value}
        return {**settings, **objective, **noise, **how, **start, **dial}

    @property
    def evaluated(self) -> tuple[bool, ...]:
        """Which of its weights are measured: False raw ones, True their average."""
        return self.settings.how.evaluated if self.settings else (False,)

    @property
    def weights(self) -> list[tuple[int, bool]]:
        """Its checkpoints: each step, and whether the weights are an average."""
        return [(step, averaged) for step in self.checkpoints for averaged in self.evaluated]

    @property
    def has_dial(self) -> bool:
        """Whether its network takes a number that is set when images are drawn."""
        return self.settings is not None and self.settings.objective.needs.dial

    @property
    def values(self) -> list[float] | list[None]:
        """At which its dial is measured; [None] without one."""
        return self.settings.dial if self.settings and self.has_dial else [None]

    def turned(self, value: float | None) -> Run:
        """This run as if its dial were always at a value: so each is a hyperparameter."""
        return replace(self, value=value)

    def measured_as(self, averaged: bool) -> Run:
        """This run as if its average, or its raw weights, alone were measured.

        So the two are different hyperparameters where both are.
        """
        if self.settings is None or len(self.evaluated) == 1:
            return self
        how = self.settings.how.measured_as("average" if averaged else "raw")
        return replace(self, settings=self.settings.model_copy(update={"optimizer": how}))

    @property
    def start(self) -> str:
        """What it starts from, by name: a model's base, an experiment's best, or a final run."""
        return self.own_start or (self.settings.start if self.settings else None) or self.model

    @property
    def is_base(self) -> bool:
        return self.settings is None and self.taken is None


def dial_of(hyperparameters: str) -> float | None:
    """Where the dial stands by hyperparameters, as JSON text; None without one."""
    value = json.loads(hyperparameters).get("dial")
    return None if value is None else float(value)


def is_average(hyperparameters: str) -> bool:
    """Whether hyperparameters, as JSON text, are those of averaged weights."""
    average = json.loads(hyperparameters).get("optimizer", {}).get("ema")
    return average is not None and average.get("evaluate", "average") == "average"


GRID, FINAL, STUDY = "grid", "final", "study"
"""Stages: every checkpoint; the selected point with other seeds; other samplings of the best."""


@dataclass(frozen=True)
class Point:
    """One evaluated point: weights, a way to sample them, a block of image seeds.

    ``step`` and ``guidance`` None: the selected ones. ``guide`` says what guides: the null label
    of the network itself, or the base model. ``dial`` t: weights base + t (fine-tuned − base).
    ``averaged``: the weights are the average that the run keeps.
    """

    run: Run
    step: int | None
    guidance: float | None
    seed: int
    stage: str = GRID
    guide: Literal["null", "base"] = "null"
    interval: tuple[float, float] | None = None
    dial: float = 1.0
    averaged: bool = False

    @property
    def method(self) -> str:
        """What the table and the figures call this way of sampling."""
        guided = self.guidance is None or self.guidance > 0
        if self.interval:
            return "cfg-interval"
        if self.run.is_base:
            return "cfg" if guided else self.run.method
        if self.dial != 1:
            return f"{self.run.method}-dial"
        kind = "cfg" if self.guide == "null" else "autoguidance"
        return f"{self.run.method}+{kind}" if guided else self.run.method

    @property
    def path(self) -> str:
        """Folder of this point's files below ``features/`` and ``grids/``."""
        experiment = self.run.experiment
        if self.stage == GRID:
            ending, value = "-average" if self.averaged else "", self.run.value
            dial = "" if value is None else f"-beta-{value:g}"
            return (
                f"{experiment}/{self.run.run_id}/step-{self.step:06d}{ending}"
                f"/guidance-{self.guidance:g}{dial}/seed-{self.seed}"
            )
        if self.stage == FINAL:
            return f"{experiment}-final/{self.run.run_id}/{self.method}/seed-{self.seed}"
        how = f"dial-{self.dial:g}" if self.dial != 1 else f"{self.method}-{self.guidance:g}"
        return f"{experiment}-study/{self.run.run_id}/{how}/seed-{self.seed}"

    @property
    def is_selected(self) -> bool:
        """Whether a selection decides how it is sampled: its guidance, or where its dial stands."""
        return self.guidance is None or (self.run.has_dial and self.run.value is None)

    @property
    def needs_base(self) -> bool:
        """Whether the base model takes part beside the weights sampled."""
        return self.guide == "base" or self.dial != 1
