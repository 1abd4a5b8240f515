"""What a network says of samples before it is a likelihood: denoised images, or logits.

Guidance mixes these, Eq. (7), so objectives that imitate guidance need them. Families give them by
``predict``; the two kinds here do for diffusion and for tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from mclr.likelihood import noise_weight, token_log_likelihood


@dataclass(frozen=True)
class Prediction(ABC):
    """What a network says of N samples under their labels: ``values`` (N, …).

    The entries are guided by γ times their ``strength``, as the family's sampler does.
    """

    values: Tensor

    @property
    def strength(self) -> Tensor | float:
        """Of guidance, in [0, 1]: broadcast to ``values``."""
        return 1.0

    # Eq. (7) and Section 2.3: c + γ (c − ∅)
    def guided(self, null: Self, gamma: float) -> Self:
        """CFG at γ away from what is said without a label."""
        scale = gamma * self.strength
        return replace(self, values=self.values + scale * (self.values - null.values))

    def unguided(self, null: Self, gamma: float | Tensor) -> Self:
        """What CFG at γ makes this of: β times this and 1 − β times ``null``, β = 1/(1 + γ).

        gamma: one for all samples, or one for each (N,).
        """
        if isinstance(gamma, Tensor):
            gamma = gamma.view(-1, *[1] * (self.values.ndim - 1))
        beta = 1 / (1 + gamma * self.strength)
        return replace(self, values=beta * self.values + (1 - beta) * null.values)

    def shifted(self, by: Tensor) -> Self:
        """With ``by`` (N, …) added."""
        return replace(self, values=self.values + by)

    @abstractmethod
    def log_likelihood(self, x: Tensor) -> Tensor:
        """ℓ of samples x (N, …): (N,), as ``Family.log_likelihood`` has it."""

    @abstractmethod
    def divergence(self, teacher: Self) -> Tensor:
        """How far this is from what a teacher says of the same samples: (N,), at least 0."""


@dataclass(frozen=True)
class Denoised(Prediction):
    """D(x + σε; σ, c): ``values`` (N, …) at the noise levels ``sigma`` (N,)."""

    sigma: Tensor
    sigma_data: float

    # Eq. (153)
    def log_likelihood(self, x: Tensor) -> Tensor:
        """−w(σ) ‖x − D‖²."""
        return -self._weighted(self.values - x)

    def divergence(self, teacher: Denoised) -> Tensor:
        """w(σ) ‖D − D'‖²."""
        return self._weighted(self.values - teacher.values)

    def _weighted(self, error: Tensor) -> Tensor:
        return noise_weight(self.sigma, self.sigma_data) * error.square().flatten(1).sum(1)


@dataclass(frozen=True)
class Logits(Prediction):
    """``values`` (N, L, V) of L tokens among V codes; ``ramp`` (L, 1) is guidance's strength."""

    ramp: Tensor | None = None

    @property
    def strength(self) -> Tensor | float:
        return 1.0 if self.ramp is None else self.ramp.to(self.values)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Σ_l log p(x_l | x_<l, c) of tokens x (N, L)."""
        return token_log_likelihood(self.values, x)

    def divergence(self, teacher: Logits) -> Tensor:
        """Σ_l KL(teacher ‖ this) in nats, over the tokens before which both have seen the same."""
        ours, theirs = (log_softmax(logits, dim=-1) for logits in (self.values, teacher.values))
        return kl_div(ours, theirs, reduction="none", log_target=True).flatten(1).sum(1)
