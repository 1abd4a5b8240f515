"""GFT, guidance-free training: a network whose mix with its own null label is the data's model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field, Tag

from mclr.errors import UserError
from mclr.objectives.distill import GUIDED
from mclr.objectives.method import Method
from mclr.objectives.objective import Given, Needs, Objective, Passes
from mclr.settings.section import Probability, number

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.loss import Batch, Loss, Predictions

ENTRY = Method(
    "gft",
    "+GFT",
    "#4c4c17",
    "2",
    "y-up-open",
    title="GFT",
    source="arXiv 2501.15420",
    meaning="Guidance-free training: mixed with what it says without a label, the network models "
    "the data; alone it is classifier-free guidance at γ = 1/β − 1.",
    equation="minimise  E[ ‖β D_θ(x_t, c) + (1 − β) sg D_θ(x_t, ∅) − x‖² ]\n"
    "          (of tokens: the cross-entropy of the same mix of logits)",
    note=(
        "GFT (arXiv 2501.15420) with a fixed β, whose optimum is CFG at γ = 1/β − 1:",
        "min ‖β D_θ(x_t, c) + (1 − β) sg[D_θ(x_t, ∅)] − x‖²",
        GUIDED.replace("KL", "cross-entropy"),
    ),
    trained=True,
    saturates=True,
)
WITH_DIAL = Method(
    "gft+dial",
    "+GFT with a dial",
    "#b45aff",
    "4",
    "y-right-open",
    title="GFT with a dial",
    source="arXiv 2501.15420",
    meaning="Guidance-free training with β as an input of the network: whoever draws sets it, and "
    "has classifier-free guidance at γ = 1/β − 1 without a second evaluation.",
    equation="minimise  E[ ‖β D_θ(x_t, c, β) + (1 − β) sg D_θ(x_t, ∅, 1) − x‖² ],  β ~ U(0, 1)\n"
    "          (of tokens: the cross-entropy of the same mix of logits)",
    note=(
        "GFT (arXiv 2501.15420) with β as an input, whose optimum is CFG at γ = 1/β − 1 for each:",
        "min ‖β D_θ(x_t, c, β) + (1 − β) sg[D_θ(x_t, ∅, 1)] − x‖², β ~ U(0, 1)",
        GUIDED.replace("KL", "cross-entropy"),
    ),
    trained=True,
    saturates=True,
    dial=True,
)
INPUT = "input"
"""Of β, in the place of a number."""


class Gft(Objective):
    """arXiv 2501.15420: CFG at γ = 1/β − 1, at one β or at each that the network is given.

    ``beta: input`` gives the network a dial: β is drawn for every sample in training, and set when
    images are drawn. Labels are dropped as in pre-training.
    """

    name: Literal["gft"]
    beta: Annotated[
        Annotated[float, Field(gt=0, le=1), Tag("number")]
        | Annotated[Literal["input"], Tag(INPUT)],
        Discriminator(lambda beta: INPUT if isinstance(number(beta), str) else "number"),
    ]
    uncond_ratio: Probability = 0.1

    @property
    def method(self) -> str:
        return WITH_DIAL.name if self.beta == INPUT else ENTRY.name

    @property
    def needs(self) -> Needs:
        return Needs(dropped=self.uncond_ratio, predictions=True, dial=self.beta == INPUT)

    @property
    def passes(self) -> Passes:
        return Passes(1, 1)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return gft_loss(self, given.predictions, given.batch, part)


# Chen et al. (arXiv 2501.15420), Algorithm 1. A sample without its label has the plain loss of the
# null label, with a gradient β times as large. As an input β is drawn for every sample; what is
# said without a label is that at β = 1, the model of the data.
def gft_loss(objective: Gft, predictions: Predictions, batch: Batch, part: Tensor) -> Loss:
    """Mean −ℓ of the samples under β D_θ(c) + (1 − β) sg D_θ(∅).

    Share of the samples ``part`` (P,). Where guidance grows from entry to entry (VAR's scales), β
    is 1/(1 + γ) of the γ there, so that the optimum is what the family samples with CFG.

    Raises:
        UserError: β is an input, and the minibatch has no values of it.
    """
    from mclr.objectives.loss import Loss, term

    some, N = batch.take(part), len(batch.labels)
    beta = some.draw.dial if isinstance(objective.beta, str) else objective.beta
    if beta is None:
        raise UserError("gft with beta: input needs a value of the dial for every sample")
    null = predictions.without(predictions.policy, some.at_rest())
    policy = predictions.policy(some.x, some.labels, some.draw)
    likelihood = policy.log_likelihood(some.x).sum() / N
    mixed = policy.unguided(null, 1 / beta - 1)
    value = -mixed.log_likelihood(some.x).sum() / N
    return Loss(value, {"log_likelihood": term(likelihood)})
