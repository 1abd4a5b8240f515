"""An objective of one's own: identity preference optimisation (IPO) over inter-class pairs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from mclr.objectives import (
    Given,
    Loss,
    OwnObjective,
    preference_log_ratios,
    preference_terms,
)


# Azar et al. (arXiv 2310.12036), Eq. 17, on the pairs of CC-DPO.
class Ipo(OwnObjective):
    """The margin log p_θ/p_ref (x_w) − log p_θ/p_ref (x_l) is drawn to 1/(2β)."""

    beta: PositiveFloat
    K: PositiveInt = 1

    label: ClassVar[str] = "+IPO"
    colour: ClassVar[str] = "#5b2c83"
    source: ClassVar[str] = "arXiv 2310.12036, on the pairs of CC-DPO"
    meaning: ClassVar[str] = "An image x_w of the class leads one of another, x_l, by so much."
    equation: ClassVar[str] = (
        "minimise  E[ ( r(x_w, c) − r(x_l, c) − 1/(2β) )² ],  r(x, c) = ℓ_θ(x, c) − ℓ_ref(x, c)"
    )
    saturates: ClassVar[bool] = True

    def loss(self, given: Given, part: Tensor) -> Loss:
        """Mean of (margin − 1/(2β))² over the tuples; share of the samples ``part`` (P,)."""
        likelihoods = given.policy, given.reference
        ratios = preference_log_ratios(*likelihoods, given.batch, given.contrast, part)
        margin = ratios.preferred - ratios.other
        return Loss(
            given.contrast.mean((margin - 1 / (2 * self.beta)) ** 2, part),
            preference_terms(ratios.preferred, ratios.other, given.contrast, part),
        )
