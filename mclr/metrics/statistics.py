"""Mean and covariance of features, batch by batch: FD without all features in memory.

N images, d feature dimensions; everything is float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.files.checksums import check


@dataclass(frozen=True)
class Gaussian:
    """What FD knows of a set of images: mean ``mu`` (d,) and covariance ``sigma`` (d, d)."""

    mu: Tensor
    sigma: Tensor


def gaussian(mu: Any, sigma: Any, source: str) -> Gaussian:
    """A Gaussian from stored statistics, such as EDM2's ``dataset-refs``.

    Args:
        mu: mean (d,), an array or tensor of any float type.
        sigma: covariance (d, d), symmetric.
        source: file or key named in errors.

    Raises:
        UserError: shapes do not fit, values are not finite, or sigma is not symmetric.
    """
    found = Gaussian(
        torch.as_tensor(mu, dtype=torch.float64), torch.as_tensor(sigma, dtype=torch.float64)
    )
    d = found.mu.numel()
    if found.mu.shape != (d,) or found.sigma.shape != (d, d):
        raise UserError(
            f"{source}: mu {tuple(found.mu.shape)} and sigma {tuple(found.sigma.shape)}, "
            "expected (d,) and (d, d); use reference statistics of one feature net"
        )
    if not (found.mu.isfinite().all() and found.sigma.isfinite().all()):
        raise UserError(f"{source}: mu or sigma is not finite; compute the statistics again")
    if not torch.allclose(found.sigma, found.sigma.T, rtol=1e-5, atol=1e-8):
        raise UserError(f"{source}: sigma is not symmetric, expected a covariance matrix")
    return found


class Moments:
    """Running count, mean (d,) and scatter Σᵢ (xᵢ − mean)(xᵢ − mean)ᵀ (d, d) of features.

    Deviations are taken from the running mean, not from 0, so that a mean far from 0 costs no
    digits. Any order of batches and merges gives the same moments up to rounding.
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dimensions, dtype=torch.float64)
        self.scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add a batch of features (N, d); none is allowed."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise UserError(
                f"features of shape {tuple(features.shape)}: expected (N, {len(self.mean)}); "
                "add features of one net only"
            )
        if len(features) == 0:
            return
        batch = features.detach().cpu().double()
        mean = batch.mean(0)
        centred = batch - mean
        self._combine(len(batch), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Add what another accumulator has seen: shards or processes, in any order."""
        if len(other.mean) != len(self.mean):
            raise UserError(
                f"moments of {len(other.mean)} and {len(self.mean)} dimensions cannot be merged; "
                "merge moments of one feature net only"
            )
        if other.count:
            self._combine(other.count, other.mean, other.scatter)

    # Chan, Golub and LeVeque 1979, Eq. 2.1, for vectors.
    def _combine(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        step = mean - self.mean
        self.scatter += scatter
        self.scatter.addr_(step, step, alpha=self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    def gaussian(self) -> Gaussian:
        """Mean and covariance over N − 1. Raises UserError for fewer than 2 images."""
        if self.count < 2:
            raise UserError(
                f"features of {self.count} images: a covariance needs at least 2; sample more"
            )
        return gaussian(self.mean, self.scatter / (self.count - 1), "features")


def stored_moments(paths: Sequence[Path], net: str, rows: int = 4096) -> Moments:
    """Moments of ``net``'s features in feature files, holding ``rows`` images at a time.

    Raises:
        UserError: no file, a file is missing or damaged, or it has no features of ``net``.
    """
    if not paths:
        raise UserError(f"no feature shards to read for {net}; run `snakemake` to make them")
    moments: Moments | None = None
    for path in paths:
        for features in _stored_features(path, f"{net}.features", rows):
            moments = moments or Moments(features.shape[1])
            moments.update(features)
    if moments is None:
        raise UserError(f"{paths[0].parent}: feature shards hold no images; sample again")
    return moments


def _stored_features(path: Path, column: str, rows: int) -> Iterator[Tensor]:
    check(path)
    try:
        with pq.ParquetFile(path) as stored:
            if column not in stored.schema_arrow.names:
                raise UserError(
                    f"{path}: no column {column!r}; it has {', '.join(stored.schema_arrow.names)}"
                )
            for batch in stored.iter_batches(rows, columns=[column]):
                flat = batch.column(0).flatten().to_numpy()
                yield torch.from_numpy(flat.copy()).view(len(batch), -1)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: feature shard is missing or damaged ({error}); "
            "delete it and run `snakemake` again"
        ) from None
