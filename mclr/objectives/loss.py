"""What an objective is given and what it returns.

A loss is computed for a part of a minibatch: losses and terms of disjoint parts add up to those
of the whole, so that neither micro-batches nor several processes change the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mclr.device import move
from mclr.likelihood import Draw
from mclr.likelihood.prediction import Prediction
from mclr.objectives.contrast import Contrast

LogLikelihood = Callable[[Tensor, Tensor, Draw], Tensor]
"""(x (N, …), labels (N,), a draw for each) -> ℓ(x, c) (N,)."""

NoisyLikelihood = Callable[[Tensor, Tensor], Tensor]
"""(candidate labels (P, C), rows of the minibatch (P,)) -> log p_t(x_t|c) (P, C), up to a
constant per row."""

Predict = Callable[[Tensor, Tensor, Draw], Prediction]
"""(x (N, …), labels (N,), a draw for each) -> what a network says of them."""


@dataclass(frozen=True)
class Predictions:
    """What the networks say of samples, for objectives that imitate guidance.

    average: of the trained network, its average where one is kept, else itself. null: the label
    that asks for the unconditional model. guide: the network that guides the frozen one, where it
    is not that itself under the null label.
    """

    policy: Predict
    average: Predict
    reference: Predict
    null: int
    guide: Predict | None = None

    @torch.no_grad()
    def teacher(self, batch: Batch) -> tuple[Prediction, Prediction]:
        """What the frozen network says with the labels, and what guides it, as constants.

        A network of its own that guides is asked as samplers ask it, without dropout.
        """
        if self.guide is None:
            return self.both(self.reference, batch)
        own = self.reference(batch.x, batch.labels, batch.draw)
        return own, self.guide(batch.x, batch.labels, replace(batch.draw, masks=None))

    @torch.no_grad()
    def both(self, predict: Predict, batch: Batch) -> tuple[Prediction, Prediction]:
        """What a network says with and without the labels, as a constant."""
        return predict(batch.x, batch.labels, batch.draw), self.without(predict, batch)

    @torch.no_grad()
    def without(self, predict: Predict, batch: Batch) -> Prediction:
        """What a network says without the labels, as a constant."""
        return predict(batch.x, torch.full_like(batch.labels, self.null), batch.draw)


@dataclass(frozen=True)
class Batch:
    """A minibatch: samples x (N, …), labels (N,), and one draw per sample."""

    x: Tensor
    labels: Tensor
    draw: Draw

    def take(self, part: Tensor) -> Batch:
        """The samples ``part`` (P,)."""
        return Batch(self.x[part], self.labels[part], self.draw.take(part))

    def at_rest(self) -> Batch:
        """The same without values of a dial: a network is asked at that which it is set to."""
        return replace(self, draw=replace(self.draw, dial=None))

    def to(self, device: torch.device) -> Batch:
        """This minibatch on ``device``."""
        return Batch(move(self.x, device), move(self.labels, device), self.draw.to(device))


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and the named terms worth recording.

    Terms stay on their device until they are written: to read one makes the CPU wait for a GPU.
    """

    value: Tensor
    terms: Mapping[str, Tensor | float]


def term(value: Tensor) -> Tensor:
    """A value worth recording: float64, without its gradient."""
    return value.detach().double()


@dataclass(frozen=True)
class LogRatios:
    """log p_θ/p_ref of P preferred samples (P, 1) and of K non-preferred ones each (P, K)."""

    preferred: Tensor
    other: Tensor


# Algorithm 2, lines 19–20, with the positive row shared by the K tuples of a sample.
def preference_log_ratios(
    policy: LogLikelihood, reference: LogLikelihood, batch: Batch, contrast: Contrast, part: Tensor
) -> LogRatios:
    """Log-ratios of (x_i, c_i) and of K samples x̃ of other classes under the same c_i, σ_i, ε_i.

    For the samples i in ``part`` (P,).
    """
    K, P = contrast.K, len(part)
    rows = torch.cat([part, contrast.index[part].flatten()])
    owner = torch.cat([part, part.repeat_interleave(K)])
    arguments = batch.x[rows], batch.labels[owner], batch.draw.take(owner)
    with torch.no_grad():
        reference_values = reference(*arguments)
    preferred, other = (policy(*arguments) - reference_values).split([P, P * K])
    return LogRatios(preferred[:, None], other.view(P, K))


def preference_terms(
    preferred: Tensor, other: Tensor, contrast: Contrast, part: Tensor
) -> dict[str, Tensor]:
    """What is recorded of rewards β log p_θ/p_ref: preferred (P, 1) and other (P, K)."""
    return {
        "reward_preferred": term(preferred.sum()) / len(contrast.index),
        "reward_other": term(contrast.mean(other, part)),
        "margin": term(contrast.mean(preferred - other, part)),
        "accuracy": contrast.mean((preferred > other).double(), part),
    }
