"""DDO: real samples against samples drawn from the frozen base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mclr.objectives.method import LOG_RATIO, REWARD, Method
from mclr.objectives.objective import Given, Needs, Objective
from mclr.settings.section import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.loss import Batch, LogLikelihood, Loss

ENTRY = Method(
    "ddo",
    "+DDO",
    "#56b4e9",
    "^",
    "triangle-up",
    title="DDO",
    source="arXiv 2503.01103",
    meaning="Real images against images x̂ drawn from the frozen base model.",
    equation="minimise  −E[ log σ(β r(x, c)) ] − α E[ log(1 − σ(β r(x̂, c))) ],\n"
    f"          {LOG_RATIO}",
    note=(
        "DDO (arXiv 2503.01103), real images x and images x̂ drawn from the frozen base model:",
        "min −log σ(r(x, c)) − α log σ(−r(x̂, c))",
        REWARD,
    ),
    trained=True,
    saturates=True,
)


class Ddo(Objective):
    """DDO (arXiv 2503.01103): real samples against samples of the frozen base model."""

    name: Literal["ddo"]
    alpha: Positive
    beta: Positive
    n_negatives: Count

    @property
    def needs(self) -> Needs:
        return Needs(reference=True, negatives=self.n_negatives)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return ddo_loss(self, given.policy, given.reference, given.batch, given.negatives, part)


# Zheng et al. (arXiv 2503.01103): −E_data log σ(β r) − α E_ref log(1 − σ(β r)), r = log p_θ/p_ref.
def ddo_loss(
    objective: Ddo,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    negatives: Batch,
    part: Tensor,
) -> Loss:
    """Each sample, real or generated, under its own label; both halves in one pass.

    Share of the samples ``part`` (P,) of both minibatches, which have the same size N. The
    diffusion part of DDO's training is unpublished: using the same one-draw surrogate as the
    other objectives is ours.
    """
    import torch
    from torch.nn.functional import logsigmoid

    from mclr.objectives.loss import Loss, term

    P, N = len(part), len(batch.labels)
    if len(negatives.labels) != N:
        raise ValueError(f"{len(negatives.labels)} negatives for {N} samples: expected as many")
    x = torch.cat([batch.x[part], negatives.x[part]])
    labels = torch.cat([batch.labels[part], negatives.labels[part]])
    draw = batch.draw.take(part).join(negatives.draw.take(part))
    with torch.no_grad():
        reference_values = reference(x, labels, draw)
    ratio = policy(x, labels, draw) - reference_values
    real, generated = (objective.beta * ratio).split([P, P])
    value = -logsigmoid(real).sum() - objective.alpha * logsigmoid(-generated).sum()
    right = (real > 0).sum() + (generated < 0).sum()
    return Loss(
        value / N,
        {
            "reward_preferred": term(real.sum()) / N,
            "reward_other": term(generated.sum()) / N,
            "margin": term((real - generated).sum()) / N,
            "accuracy": term(right) / (2 * N),
        },
    )
