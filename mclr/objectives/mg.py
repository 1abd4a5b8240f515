"""MG, model guidance: the target moved along what a label changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mclr.objectives.distill import GUIDED
from mclr.objectives.method import Method
from mclr.objectives.objective import Given, Needs, Objective, Passes
from mclr.settings.section import Probability

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.loss import Batch, Loss, Predictions

ENTRY = Method(
    "mg",
    "+MG",
    "#e60039",
    "3",
    "y-left-open",
    title="MG",
    source="arXiv 2502.12154",
    meaning="Model guidance: the target is moved by w times what the label changes; the optimum is "
    "classifier-free guidance at γ = w/(1 − w).",
    equation="minimise  E[ ‖D_θ(x_t, c) − x − w sg(D(x_t, c) − D(x_t, ∅))‖² ],\n"
    "          D that of θ, or of its average (of tokens: the cross-entropy of the same logits)",
    note=(
        "Model guidance (arXiv 2502.12154), whose optimum is CFG at γ = w/(1 − w):",
        "min ‖D_θ(x_t, c) − (x + w sg[D(x_t, c) − D(x_t, ∅)])‖², D of θ or of its average",
        GUIDED.replace("KL", "cross-entropy"),
    ),
    trained=True,
    saturates=True,
)


class Mg(Objective):
    """arXiv 2502.12154: CFG at γ = w/(1 − w); labels dropped as in pre-training.

    Of a diffusion model, and without an average of the weights, its gradient is that of GFT at
    β = 1 − w, divided by β: to Adam, which does not see the scale, the two are one method.
    """

    name: Literal["mg"]
    w: Annotated[float, Field(gt=0, lt=1)]
    uncond_ratio: Probability = 0.1

    @property
    def needs(self) -> Needs:
        return Needs(dropped=self.uncond_ratio, predictions=True)

    @property
    def passes(self) -> Passes:
        return Passes(1, 2)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return mg_loss(self, given.predictions, given.batch, part)


# Tang et al. (arXiv 2502.12154); of a sample without its label nothing is moved.
def mg_loss(objective: Mg, predictions: Predictions, batch: Batch, part: Tensor) -> Loss:
    """Mean −ℓ of the samples under D_θ(c) − w sg[D(c) − D(∅)], D of the average if one is kept.

    Share of the samples ``part`` (P,). Where guidance grows from entry to entry (VAR's scales), w
    is γ/(1 + γ) of the γ there, so that the optimum is what the family samples with CFG.
    """
    from mclr.objectives.loss import Loss, term

    some, N = batch.take(part), len(batch.labels)
    own, null = predictions.both(predictions.average, some)
    policy = predictions.policy(some.x, some.labels, some.draw)
    likelihood = policy.log_likelihood(some.x).sum() / N
    gamma = objective.w / (1 - objective.w)
    moved = policy.shifted(own.unguided(null, gamma).values - own.values)
    value = -moved.log_likelihood(some.x).sum() / N
    return Loss(value, {"log_likelihood": term(likelihood)})
