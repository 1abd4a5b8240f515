"""What a computation says of one statement of the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Statement:
    """One claim, the world it was computed in, and the largest deviation from it.

    ``tolerance`` is the error the computation itself may have (its source is ``reason``), chosen
    before looking: the statement holds if the deviation does not exceed it.
    """

    id: str
    """Unique and short: "theorem1-optimum"."""
    title: str
    """As the paper names it: "Theorem 1"."""
    equations: str
    """Numbers in the paper: "(11), (16), (17)"."""
    claim: str
    """One sentence: what is compared with what."""
    world: str
    """Where it was computed: "8 points, 3 classes, priors 0.5/0.3/0.2"."""
    deviation: float
    tolerance: float
    reason: str
    """Where the tolerance comes from: "bisection to 1e-12", "4 standard errors of 10^6 draws"."""
    figure: str | None = None
    """File name (without suffix) of the figure that shows it."""

    @property
    def holds(self) -> bool:
        return self.deviation <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"holds": self.holds}


State = Callable[..., Statement]
"""``Statement`` with what a topic's statements have in common already given."""
