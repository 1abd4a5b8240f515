"""What every objective is: its settings, what it needs, and its loss.

Configurations are read with these classes, so no module here imports torch when it is loaded.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mclr.errors import UserError
from mclr.settings.section import Section

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.contrast import Contrast
    from mclr.objectives.loss import Batch, LogLikelihood, Loss, NoisyLikelihood, Predictions

KIND = {"name", "implementation"}
"""Keys that say which objective it is; the others are its settings."""

BACKWARD = 2
"""Gradients of activations and of weights: each as many multiply-adds as the forward pass."""

T = TypeVar("T")


@dataclass(frozen=True)
class Passes:
    """Rows with a gradient and without one, of whichever network, for one sample."""

    trained: int
    frozen: int = 0

    @property
    def evaluations(self) -> int:
        """In forward passes of one image: a trained row costs three."""
        return (1 + BACKWARD) * self.trained + self.frozen


@dataclass(frozen=True)
class Needs:
    """What an objective is given beside the minibatch, see ``Given``.

    partners: for each sample so many others of another class. reference: whether it asks for the
    likelihoods of the frozen network. negatives: how many samples of the frozen network are drawn
    before training. noisy: draws of the likelihood of noisy samples, which diffusion models alone
    have. dropped: the probability that a sample loses its label; None: labels stay. predictions:
    whether it asks for denoised images or logits, which families of somebody's own may not tell.
    dial: whether the network gets a dial, whose values are drawn for every sample (``draw.dial``).
    """

    partners: int = 0
    reference: bool = False
    negatives: int = 0
    noisy: int = 0
    dropped: float | None = None
    predictions: bool = False
    dial: bool = False


@dataclass(frozen=True)
class Given:
    """What an objective gets for a step: the likelihoods, the minibatch, and what it asked for.

    policy and reference: ℓ of the trained and of the frozen network. priors: p(c) of each class,
    (classes,). What was not asked for in ``Needs`` is None, and an error to use.
    """

    policy: LogLikelihood
    reference: LogLikelihood
    batch: Batch
    priors: Tensor
    partners: Contrast | None = None
    made: Batch | None = None
    noisy: NoisyLikelihood | None = None
    without_label: Tensor | None = None
    said: Predictions | None = None

    @property
    def contrast(self) -> Contrast:
        """Of each sample of the minibatch, others of another class."""
        return _asked(self.partners, "partners")

    @property
    def negatives(self) -> Batch:
        """As many samples of the frozen network as the minibatch has."""
        return _asked(self.made, "negatives")

    @property
    def noisy_likelihood(self) -> NoisyLikelihood:
        """log p_t(x_t|c) of the noisy minibatch, by the frozen network."""
        return _asked(self.noisy, "noisy")

    @property
    def dropped(self) -> Tensor:
        """Which samples of the minibatch have lost their label: bool (N,)."""
        return _asked(self.without_label, "dropped")

    @property
    def predictions(self) -> Predictions:
        """Denoised images or logits of the networks."""
        return _asked(self.said, "predictions")


def _asked(value: T | None, need: str) -> T:
    if value is None:
        raise UserError(f"objective: its loss uses what Needs.{need} did not ask for; add it there")
    return value


class Objective(Section):
    """The settings of an objective of a configuration, and its loss."""

    is_own: ClassVar[bool] = False
    """Whether its loss is code of the user's."""

    @property
    def method(self) -> str:
        """Its name in the catalogue."""
        name: str = getattr(self, "name")  # noqa: B009
        return name

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What its loss is given."""

    @property
    def passes(self) -> Passes:
        """Of one sample in a step: its own row, those of its partners, one of a negative."""
        needs = self.needs
        trained = 1 + needs.partners + (needs.negatives > 0)
        noisy = 2 * needs.noisy * (1 + needs.partners)  # two for each draw and candidate label
        return Passes(trained, trained * needs.reference + noisy)

    @abstractmethod
    def loss(self, given: Given, part: Tensor) -> Loss:
        """Share of the samples ``part`` (P,) in the loss of the minibatch."""

    @property
    def code(self) -> dict[str, str]:
        """What its results depend on beside settings and this package, for specifications."""
        return {}

    def loaded(self, sha256: str = "") -> Objective:
        """The objective itself; of somebody's own, their class (see ``own``)."""
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """What a run records of its objective, beside its name and settings."""
        return {}
