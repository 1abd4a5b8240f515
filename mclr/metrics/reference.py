"""Real images that many points are compared with: what depends on them alone is computed once.

FD, precision and recall are those of torch-fidelity from features in float64.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mclr.device import CPU
from mclr.errors import UserError
from mclr.metrics.distance import distance_of_statistics, require_comparable, statistics_of
from mclr.metrics.neighbours import covered, kth_squares
from mclr.metrics.statistics import Gaussian

DIRECT = 512
"""Up to so many dimensions torch-fidelity's own eigenvalues of Σ₁Σ₂ take a fraction of a second."""


class Reference:
    """Features (M, d) of real images, for FD and k-th neighbour precision and recall.

    moments: of more real images, such as published ones, in place of the features' own in FD.
    device: where distances for precision and recall are computed, block by block.

    Raises:
        UserError: the moments are of another number of dimensions.
    """

    def __init__(
        self,
        features: Tensor,
        neighbourhood: int,
        moments: Gaussian | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.features = features
        self.neighbourhood = neighbourhood
        self.moments, self.device = moments, device
        if moments and len(moments.mu) != features.shape[1]:
            raise UserError(
                f"statistics of {len(moments.mu)} dimensions, but the feature net has "
                f"{features.shape[1]}; name the statistics of this net"
            )

    def frechet_distance(self, generated: Tensor) -> float:
        """FD between Gaussians fitted to features (N, d) and the real ones.

        Raises:
            UserError: other dimensions, fewer than 2 images, or a value that is not finite.
        """
        require_comparable(generated, self.features, 2, "FD")
        found = statistics_of(generated)
        if generated.shape[1] <= DIRECT:
            return distance_of_statistics(found, self._statistics)
        return self._symmetric_distance(found)

    def precision_recall(self, generated: Tensor) -> tuple[float, float]:
        """Improved precision and recall (Kynkäänniemi et al. 2019) of features (N, d), ≤.

        Raises:
            UserError: other dimensions, at most k images, or a value that is not finite.
        """
        least = self.neighbourhood + 1
        require_comparable(generated, self.features, least, "precision and recall")
        made = generated.to(self.device)
        made_squares = kth_squares(made, self.neighbourhood)
        reached, inside = covered(self._real, self._squares, made, made_squares)
        return inside.float().mean().item(), reached.float().mean().item()

    @cached_property
    def _statistics(self) -> dict[str, Any]:
        if self.moments:
            return {"mu": self.moments.mu.numpy(), "sigma": self.moments.sigma.numpy()}
        return statistics_of(self.features)

    @cached_property
    def _root(self) -> Tensor:
        """The symmetric square root of the covariance Σ₂."""
        values, vectors = torch.linalg.eigh(torch.from_numpy(self._statistics["sigma"]))
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root

    @cached_property
    def _real(self) -> Tensor:
        return self.features.to(self.device)

    @cached_property
    def _squares(self) -> Tensor:
        return kth_squares(self._real, self.neighbourhood)

    # Σ₁Σ₂ and Σ₂^½ Σ₁ Σ₂^½ have the same eigenvalues; the second matrix is symmetric.
    def _symmetric_distance(self, found: dict[str, Any]) -> float:
        real, sigma = self._statistics, torch.from_numpy(found["sigma"])
        values = torch.linalg.eigvalsh(self._root @ sigma @ self._root)
        trace = values.clamp(min=0).sqrt().sum().item()
        difference = found["mu"] - real["mu"]
        traces = np.trace(found["sigma"]) + np.trace(real["sigma"])
        return float(difference @ difference + traces - 2 * trace)
