"""How a fine-tuning run updates its weights, where not by Adam at a constant rate."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mclr.settings.section import Count, NonNegative, OnlySet, Positive, Probability, Section, plain

MAX_STD = 12**-0.5
"""Widest power-function average (Karras et al., arXiv 2312.02696, after Eq. 126)."""


def _steps_or_share(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"expected whole steps, or a share of the run below 1; got {value:g}")
    return value


StepsOrShare = Annotated[NonNegative, AfterValidator(_steps_or_share)]


class Average(OnlySet, Section):
    """An average of the weights along a run, and which weights are kept and measured."""

    std: Annotated[float, Field(gt=0, lt=MAX_STD)] | None = None
    """σ_rel of EDM2's power-function average."""
    half_life: Positive | None = None
    """Training images after which weights count half as much."""
    evaluate: Literal["average", "raw", "both"] = "average"
    """With both, every checkpoint is a point of the sweep twice."""

    @model_validator(mode="after")
    def _one_profile(self) -> Average:
        if (self.std is None) == (self.half_life is None):
            raise ValueError("give either std (σ_rel of a power function) or half_life (images)")
        return self


class Optimizer(OnlySet, Section):
    """Section ``optimizer`` of a run; without it, Adam (0.9, 0.99) at the rate ``lr``.

    The rate, as a share of ``lr``: from ``start`` up to 1 during ``warmup``, 1 for the share
    ``hold`` of the steps that remain, then down to ``final`` at the last one, in a straight line or
    along half a cosine.
    """

    name: Literal["adam", "adamw"] = "adam"
    betas: tuple[Probability, Probability] = (0.9, 0.99)
    weight_decay: NonNegative = 0.0
    """Of AdamW; biases and whatever else the family's own training spares have none."""
    weight_decay_final: NonNegative | None = None
    """What it becomes along half a cosine; None: it stays."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: StepsOrShare = 0
    """Steps, or a share of them if below 1."""
    start: Annotated[float, Field(ge=0, le=1)] = 0.005
    """As in VAR's training code."""
    hold: Probability = 0.0
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    steps: Count | None = None
    """At which the schedule ends; the run's last checkpoint if absent."""
    clip: Positive | None = None
    """Largest norm of the gradient of a whole minibatch; longer ones are scaled down to it."""
    ema: Average | None = None
    dropout: Probability = 0.0
    """Of activations (EDM2), or of the last block's branches, linear from 0 in the first (VAR).
    The base model, and all rows of a sample, share its masks. ``network.dropout`` and
    ``drop_path_rate`` take no part in fine-tuning."""

    @model_validator(mode="after")
    def _consistent(self) -> Optimizer:
        if self.name == "adam" and (self.weight_decay or self.weight_decay_final):
            raise ValueError(
                "weight_decay: of adamw alone (adam would mix it into the gradient's statistics); "
                "write name: adamw"
            )
        if self.schedule == "constant" and (self.final or self.hold):
            raise ValueError("final, hold: a constant rate ends as it was; choose a schedule")
        return self

    @property
    def evaluated(self) -> tuple[bool, ...]:
        """Which weights a run keeps: False raw ones, True their average."""
        kinds = {"average": (True,), "raw": (False,), "both": (False, True)}
        return kinds[self.ema.evaluate] if self.ema else (False,)

    def measured_as(self, weights: Literal["average", "raw"]) -> Optimizer:
        """The same with one of the two kinds of weights measured."""
        if self.ema is None:
            return self
        ema = Average.model_validate(plain(self.ema) | {"evaluate": weights})
        return Optimizer.model_validate(plain(self) | {"ema": ema})

    def rate(self, step: int, last: int) -> float:
        """Learning rate at a step (from 0) as a share of ``lr``, of a run of ``last`` steps."""
        steps = self.steps or last
        warmup = self.warmup if self.warmup >= 1 else round(self.warmup * steps)
        if step < warmup:
            return self.start + (1 - self.start) * step / warmup
        if self.schedule == "constant":
            return 1.0
        passed = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
        left = min((1 - passed) / (1 - self.hold), 1.0)
        if self.schedule == "cosine":
            left = 0.5 - 0.5 * math.cos(math.pi * left)
        return self.final + (1 - self.final) * left

    def decay(self, step: int, last: int) -> float:
        """Weight decay at a step (from 0)."""
        if self.weight_decay_final is None:
            return self.weight_decay
        passed = min(step / max((self.steps or last) - 1, 1), 1.0)
        left = 0.5 + 0.5 * math.cos(math.pi * passed)
        return self.weight_decay_final + (self.weight_decay - self.weight_decay_final) * left


NOTHING_SAID = Optimizer()
"""Of a run without the section."""
