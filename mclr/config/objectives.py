"""Objectives of the paper, and a fine-tuning experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from mclr.config.base import Count, Name, NoiseLevels, NonNegative, Positive, Probability, Section


class Mclr(Section):
    """Eq. (22)/(150); K = 1 is Approach 1, K > 1 Approach 2; dsm is β of Eq. (160)."""

    name: Literal["mclr"]
    K: Count = 1
    dsm: NonNegative = 0.0

    @property
    def method(self) -> str:
        return "mclr+dsm" if self.dsm else "mclr"


class Wmclr(Section):
    """Theorem 3's weighted objective, Eq. (23): its optimum is the CFG score at γ = 1/dsm.

    The ratio p_t(x_t|c̃)/p_t(x_t) is estimated with ``draws`` draws, two evaluations of the base
    model each and per label; at most ``clip``, and 0 below ``floor``.
    """

    name: Literal["wmclr"]
    dsm: Positive
    K: Count = 4
    draws: Count = 4
    floor: Probability = 0.2
    clip: Annotated[float, Field(ge=1)] = 10.0

    @property
    def method(self) -> str:
        return self.name


class CcDpo(Section):
    """Eq. (156)."""

    name: Literal["ccdpo"]
    beta: Positive
    K: Count = 1

    @property
    def method(self) -> str:
        return self.name


class Cca(Section):
    """Eq. (159); thu-ml/CCA drops labels with probability uncond_ratio (0.1 in its recipes)."""

    name: Literal["cca"]
    beta: Positive
    lam: Annotated[float, Field(gt=0, alias="lambda")]
    K: Count = 1
    uncond_ratio: Probability = 0.0
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )

    @property
    def method(self) -> str:
        return self.name


class Ddo(Section):
    """DDO (arXiv 2503.01103): real samples against samples of the frozen base model."""

    name: Literal["ddo"]
    alpha: Positive
    beta: Positive
    n_negatives: Count

    @property
    def method(self) -> str:
        return self.name


Objective = Annotated[Mclr | Wmclr | CcDpo | Cca | Ddo, Field(discriminator="name")]


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
