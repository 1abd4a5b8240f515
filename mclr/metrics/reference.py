"""Real images that many points are compared with: what depends on them alone is computed once.

FD, precision and recall are those of ``mclr.metrics.scores``, hence of torch-fidelity.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics

from mclr.device import CPU
from mclr.errors import UserError
from mclr.metrics.distance import distance_of_statistics, require_comparable
from mclr.metrics.statistics import Gaussian

DIRECT = 512
"""Up to so many dimensions torch-fidelity's own eigenvalues of Σ₁Σ₂ take a fraction of a second."""

ROWS = 2_000
"""Images whose distances to all others are in memory together."""


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
        self.features = features.double()
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
        found = fid_features_to_statistics(generated.double())
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
        made = generated.double().to(self.device)
        made_radii = radii(made, self.neighbourhood)
        inside, covered = torch.zeros(len(made), dtype=torch.bool, device=self.device), []
        for real, real_radii in zip(self._real.split(ROWS), self._radii.split(ROWS), strict=True):
            distances = torch.cdist(real, made)
            covered.append((distances <= made_radii).any(1))
            inside |= (distances <= real_radii[:, None]).any(0)
        return inside.float().mean().item(), torch.cat(covered).float().mean().item()

    @cached_property
    def _statistics(self) -> dict[str, Any]:
        if self.moments:
            return {"mu": self.moments.mu.numpy(), "sigma": self.moments.sigma.numpy()}
        found: dict[str, Any] = fid_features_to_statistics(self.features)
        return found

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
    def _radii(self) -> Tensor:
        return radii(self._real, self.neighbourhood)

    # Σ₁Σ₂ and Σ₂^½ Σ₁ Σ₂^½ have the same eigenvalues; the second matrix is symmetric.
    def _symmetric_distance(self, found: dict[str, Any]) -> float:
        real, sigma = self._statistics, torch.from_numpy(found["sigma"])
        values = torch.linalg.eigvalsh(self._root @ sigma @ self._root)
        trace = values.clamp(min=0).sqrt().sum().item()
        difference = found["mu"] - real["mu"]
        traces = np.trace(found["sigma"]) + np.trace(real["sigma"])
        return float(difference @ difference + traces - 2 * trace)


def radii(features: Tensor, neighbourhood: int) -> Tensor:
    """Distance (N,) of each of the features (N, d) to its k-th neighbour without itself."""
    nearest = neighbourhood + 1
    # kthvalue, which is faster on CPUs, is refused on GPUs where sums are to repeat.
    return torch.cat(
        [
            distances.kthvalue(nearest).values
            if distances.device.type == "cpu"
            else distances.topk(nearest, largest=False).values[:, -1]
            for distances in (torch.cdist(rows, features) for rows in features.split(ROWS))
        ]
    )
