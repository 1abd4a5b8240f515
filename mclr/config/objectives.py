"""What a tier compares: fine-tuning experiments, and networks that others have fine-tuned."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Tag, field_validator

from mclr.objectives.cca import Cca
from mclr.objectives.ccdpo import CcDpo
from mclr.objectives.ddo import Ddo
from mclr.objectives.mclr import Mclr
from mclr.objectives.own import Own
from mclr.objectives.wmclr import Wmclr
from mclr.objectives.catalogue import METHODS
from mclr.settings.base import Count, Name, NoiseLevels, Positive, Section
from mclr.settings.released import ORIGIN, RELEASED, TRAINED, Released

RELEASED_SUFFIX = "-released"
"""Of the name of a method whose network others trained."""

Objective = Annotated[Mclr | Wmclr | CcDpo | Cca | Ddo | Own, Field(discriminator="name")]


class FineTuning(Section):
    """One fine-tuning experiment: a job per seed and per combination of the swept values."""

    model: Name
    objective: Objective
    lr: Positive
    batch: Annotated[int, Field(ge=2)]
    checkpoints: Annotated[list[Count], Field(min_length=1)]
    noise: NoiseLevels | None = None
    """Noise levels of the fine-tuning alone; the model's own if absent."""
    sweep: dict[str, Annotated[list[float], Field(min_length=1)]] = Field(default={})
    start: Name | None = Field(default=None, alias="from")
    """The experiment whose best checkpoint takes the place of the base model: another round."""
    final: bool = True
    """Whether the best point is trained again with the seeds of ``final``."""

    @field_validator("checkpoints")
    @classmethod
    def _increasing(cls, steps: list[int]) -> list[int]:
        if steps != sorted(set(steps)):
            raise ValueError(f"steps must increase without repeats, got {steps}")
        return steps

    @field_validator("objective", mode="before")
    @classmethod
    def _named(cls, objective: Any) -> Any:
        """One with an implementation is somebody's own, without being called so."""
        if isinstance(objective, dict) and "implementation" in objective:
            return {"name": "own"} | objective
        return objective


class ReleasedTuning(Released):
    """A network that others fine-tuned and published: a row that is measured, not trained.

    model: what it was fine-tuned from. method: how, a method of the catalogue that trains.
    """

    model: Name
    method: Name

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        trained = [name for name, entry in METHODS.items() if entry.trained]
        if method not in trained:
            raise ValueError(f"unknown method {method!r}; choose from {', '.join(trained)}")
        return method

    @property
    def row(self) -> str:
        """The method that results call it: never the one of a run that was trained here."""
        return f"{self.method}{RELEASED_SUFFIX}"


Tuning = Annotated[
    Annotated[FineTuning, Tag(TRAINED)] | Annotated[ReleasedTuning, Tag(RELEASED)], ORIGIN
]
