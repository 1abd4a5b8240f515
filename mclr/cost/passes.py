"""How many images go through the network for one sample of a minibatch."""

from __future__ import annotations

from dataclasses import dataclass

from mclr.config.objectives import Cca, CcDpo, Ddo, Mclr, Objective, Wmclr

BACKWARD = 2
"""Gradients of activations and of weights: each as many multiply-adds as the forward pass."""


@dataclass(frozen=True)
class Passes:
    """Rows through the trained network and through the frozen base model, for one sample."""

    trained: int
    frozen: int = 0

    @property
    def evaluations(self) -> int:
        """In forward passes of one image: a trained row costs three."""
        return (1 + BACKWARD) * self.trained + self.frozen


BASE = Passes(1)


def objective_passes(objective: Objective) -> Passes:
    """Of a fine-tuning step: mclr/objectives, one function each."""
    match objective:
        case Mclr():
            return Passes(1 + objective.K)
        case Wmclr():  # two passes for each draw and candidate label
            return Passes(1 + objective.K, 2 * objective.draws * (1 + objective.K))
        case CcDpo() | Cca():
            return Passes(1 + objective.K, 1 + objective.K)
        case Ddo():  # a sample of the data and one of the base model
            return Passes(2, 2)
