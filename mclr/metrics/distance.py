"""What every comparison of two sets of features begins and ends with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric

from mclr.errors import UserError

PIECE = 1024
"""Images of which copies are in memory while they are checked."""


# numpy's covariance step by step, hence the same bits; it centres another copy of its own.
def statistics_of(features: Tensor) -> dict[str, Any]:
    """``mu`` (d,) and ``sigma`` (d, d) of features (N, d) in float64: torch-fidelity's bits."""
    own = features.detach().to(torch.float64, copy=True).numpy()
    mu = np.mean(own, axis=0)
    own -= np.average(own.T, axis=1)
    sigma = np.dot(own.T, own)
    sigma *= np.true_divide(1, len(own) - 1)
    return {"mu": mu, "sigma": sigma}


def distance_of_statistics(*statistics: dict[str, Any]) -> float:
    """FD between two Gaussians, each ``mu`` and ``sigma`` as torch-fidelity has them."""
    found = fid_statistics_to_metric(*statistics, verbose=False)
    return float(found["frechet_inception_distance"])


def require_comparable(generated: Tensor, real: Tensor, least: int, metric: str) -> None:
    """Raise UserError unless both are finite and of equal dimension, with ``least`` images each."""
    if generated.shape[1] != real.shape[1]:
        raise UserError(
            f"{metric}: {generated.shape[1]} generated and {real.shape[1]} real feature "
            "dimensions; take both from one feature net"
        )
    for name, features in (("generated", generated), ("real", real)):
        if len(features) < least:
            raise UserError(
                f"{metric}: {len(features)} {name} images, expected at least {least}; sample more"
            )
        if not all(part.isfinite().all() for part in features.split(PIECE)):
            raise UserError(f"{metric}: features of {name} images are not finite; check the images")
