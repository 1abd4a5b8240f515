"""What a tier compares: fine-tuning experiments, and networks that others have fine-tuned."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, Tag, field_validator, model_validator

from mclr.config.recipes import RECIPES, filled
from mclr.objectives.catalogue import METHODS
from mclr.objectives.cca import Cca
from mclr.objectives.ccdpo import CcDpo
from mclr.objectives.ddo import Ddo
from mclr.objectives.distill import Distill
from mclr.objectives.gft import Gft
from mclr.objectives.mclr import Mclr
from mclr.objectives.mg import Mg
from mclr.objectives.own import Own
from mclr.objectives.wmclr import Wmclr
from mclr.settings.optimizer import NOTHING_SAID, Optimizer
from mclr.settings.origin import ORIGIN, RELEASED, TRAINED, Released
from mclr.settings.section import Count, Name, NoiseLevels, Positive, Section, distinct

RELEASED_SUFFIX = "-released"
"""Of the name of a method whose network others trained."""

Objective = Annotated[
    Mclr | Wmclr | CcDpo | Cca | Ddo | Distill | Gft | Mg | Own, Field(discriminator="name")
]


def _or_recipe(schema: dict[str, Any]) -> None:
    """For editors: what is required is so without a recipe."""
    needed = schema["required"]
    schema["required"] = ["model"]
    schema["anyOf"] = [{"required": needed}, {"required": ["recipe"]}]


Epochs = Annotated[float, Field(gt=0, le=1e6)]


class FineTuning(Section):
    """One fine-tuning experiment: a job per seed and per combination of the swept values."""

    model_config = ConfigDict(json_schema_extra=_or_recipe)
    recipe: str | None = Field(
        default=None, exclude_if=operator.not_, json_schema_extra={"enum": [*RECIPES]}
    )
    """A published recipe, for what the run does not say itself (``mclr.config.recipes``)."""
    model: Name
    objective: Objective
    lr: Positive
    batch: Annotated[int, Field(ge=2)]
    checkpoints: Annotated[list[Count], Field(min_length=1)] = Field(
        default=[], exclude_if=operator.not_
    )
    """Steps after which the weights are kept and measured; the last ends training."""
    epochs: Annotated[list[Epochs], Field(min_length=1)] | None = Field(
        default=None, exclude_if=operator.not_
    )
    """The same in passes over the training images, in place of ``checkpoints``."""
    noise: NoiseLevels | None = None
    """Noise levels of the fine-tuning alone; the model's own if absent."""
    optimizer: Optimizer | None = Field(default=None, exclude_if=operator.not_)
    sweep: dict[str, Annotated[list[float], Field(min_length=1)]] = Field(default={})
    start: Name | None = Field(default=None, alias="from")
    """The experiment whose best checkpoint takes the place of the base model: another round."""
    dial: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(distinct)] = Field(
        default=[], exclude_if=operator.not_
    )
    """Of a network that has one (``objective.beta: input``): values of β at which every checkpoint
    is measured, as a base model is at scales of guidance."""
    final: bool = True
    """Whether the best point is trained again with the seeds of ``final``."""

    @field_validator("checkpoints", "epochs")
    @classmethod
    def _increasing(cls, steps: list[float] | None) -> list[float] | None:
        if steps and steps != sorted(set(steps)):
            raise ValueError(f"steps must increase without repeats, got {steps}")
        return steps

    @model_validator(mode="after")
    def _one_length(self) -> FineTuning:
        if bool(self.checkpoints) == bool(self.epochs):
            raise ValueError("checkpoints: give steps there, or epochs in their place")
        return self

    @property
    def how(self) -> Optimizer:
        """Its ``optimizer``, with the defaults of a run without one."""
        return self.optimizer or NOTHING_SAID

    def in_steps(self, n_train: int | None) -> FineTuning:
        """The same with steps for epochs of ``n_train`` images; incomplete minibatches are none.

        ValueError if the number of images is not known.
        """
        if self.epochs is None:
            return self
        if n_train is None:
            raise ValueError("epochs: how long one is, data.count must say: the number of images")
        steps = [max(1, int(epoch * n_train / self.batch)) for epoch in self.epochs]
        if len(set(steps)) < len(steps):
            raise ValueError(
                f"epochs: {self.epochs} of {n_train:,} images are steps {steps}; they must differ"
            )
        return self.model_copy(update={"checkpoints": steps, "epochs": None})

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, content: Any) -> Any:
        is_named = isinstance(content, dict) and content.get("recipe") is not None
        return filled(content) if is_named else content

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
