"""Guidance distillation: the frozen base model's own CFG as the teacher of one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mclr.objectives.method import Method
from mclr.objectives.objective import Given, Needs, Objective, Passes
from mclr.settings.section import Positive

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.loss import Batch, Loss, Predictions

GUIDED = "D: denoised image, ‖·‖² weighted by w(σ); of tokens the logits, KL in the place of ‖·‖²."

ENTRY = Method(
    "distill",
    "+distillation",
    "#7300e6",
    "1",
    "y-down-open",
    title="distillation",
    source="arXiv 2210.03142, stage one",
    meaning="The network learns to say without guidance what the frozen base model says with "
    "classifier-free guidance at γ.",
    equation="minimise  E[ ‖D_θ(x_t, c) − D_ref(x_t, c) − γ (D_ref(x_t, c) − D_ref(x_t, ∅))‖² ]\n"
    "          (of tokens: KL from the guided softmax of the base model to that of θ)",
    note=(
        "Guidance distillation (arXiv 2210.03142), the base model's CFG at γ as teacher:",
        "min ‖D_θ(x_t, c) − [D_ref(x_t, c) + γ (D_ref(x_t, c) − D_ref(x_t, ∅))]‖²",
        GUIDED,
    ),
    trained=True,
    saturates=True,
)


class Distill(Objective):
    """Guidance distillation; γ and what guides are those of ``models.<model>``."""

    name: Literal["distill"]
    gamma: Positive

    @property
    def needs(self) -> Needs:
        return Needs(reference=True, predictions=True)

    @property
    def passes(self) -> Passes:
        return Passes(1, 2)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return distill_loss(self, given.predictions, given.batch, part)


# Meng et al. (arXiv 2210.03142), stage one, at one γ; its optimum is the teacher.
def distill_loss(objective: Distill, predictions: Predictions, batch: Batch, part: Tensor) -> Loss:
    """Mean divergence of what the policy says from the base model's CFG at γ.

    Share of the samples ``part`` (P,). The denoiser's error has the weight w(σ) of ℓ; of tokens it
    is the sum of KL over the tokens of an image, in nats.
    """
    from mclr.objectives.loss import Loss, term

    some, N = batch.take(part), len(batch.labels)
    teacher, null = predictions.teacher(some)
    policy = predictions.policy(some.x, some.labels, some.draw)
    likelihood = policy.log_likelihood(some.x).sum() / N
    value = policy.divergence(teacher.guided(null, objective.gamma)).sum() / N
    return Loss(value, {"log_likelihood": term(likelihood)})
