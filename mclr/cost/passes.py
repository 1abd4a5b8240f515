"""How many images go through the network for one sample of a minibatch."""

from __future__ import annotations

from mclr.objectives.objective import BACKWARD, Objective, Passes

__all__ = ["BACKWARD", "BASE", "Passes", "objective_passes"]

BASE = Passes(1)


def objective_passes(objective: Objective) -> Passes:
    """Of a fine-tuning step; of an objective of the user's own, as their class says."""
    return objective.loaded().passes
