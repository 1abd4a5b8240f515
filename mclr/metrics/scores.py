"""FD, KID, Inception Score, precision and recall of features: the numbers of torch-fidelity.

It computes the first three, from features in float64: in float32 its means and distances lose
digits. Precision and recall are its counts in float64, from ``mclr.metrics.neighbours``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.version import __version__ as torch_fidelity_version

from mclr.errors import UserError
from mclr.metrics.distance import distance_of_statistics, require_comparable, statistics_of
from mclr.metrics.features import Features
from mclr.metrics.reference import Reference
from mclr.metrics.statistics import Gaussian
from mclr.settings.section import canonical

SEED = 2020
"""Of every shuffle and subset: torch-fidelity's and dgm-eval's default."""


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """FD between Gaussians fitted to features (N, d) and (M, d); covariance with N − 1.

    Raises:
        UserError: other dimensions, fewer than 2 images, or a value that is not finite.
    """
    require_comparable(generated, real, 2, "FD")
    return distance_of_statistics(statistics_of(generated), statistics_of(real))


def frechet_distance_of_moments(generated: Gaussian, real: Gaussian) -> float:
    """FD between two Gaussians, for features that were never in memory together.

    Raises:
        UserError: the Gaussians have other dimensions.
    """
    if generated.mu.shape != real.mu.shape:
        raise UserError(
            f"FD: {len(generated.mu)} generated and {len(real.mu)} real feature dimensions; "
            "take both from one feature net"
        )
    return distance_of_statistics(
        *({"mu": g.mu.numpy(), "sigma": g.sigma.numpy()} for g in (generated, real))
    )


def kernel_inception_distance(
    generated: Tensor, real: Tensor, subsets: int, subset_size: int
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets of the unbiased MMD² (Bińkowski 2018).

    Kernel (xᵀy / d + 1)³; subsets drawn with the fixed seed 2020.

    Args:
        generated, real: features (N, d) and (M, d).
        subset_size: images of either set in a subset; at most min(N, M).

    Raises:
        UserError: other dimensions, too few images, or a value that is not finite.
    """
    require_comparable(generated, real, max(2, subset_size), "KID")
    if subsets < 1 or subset_size < 2:
        raise UserError(
            f"KID: {subsets} subsets of {subset_size} images, expected at least 1 subset of 2"
        )
    found = kid_features_to_metric(
        generated.double(), real.double(), kid_subsets=subsets, kid_subset_size=subset_size,
        rng_seed=SEED, verbose=False,
    )  # fmt: skip
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def precision_recall(generated: Tensor, real: Tensor, neighbourhood: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019) with k-th neighbour radii, ≤.

    Raises:
        UserError: other dimensions, at most k images, or a value that is not finite.
    """
    return Reference(real, neighbourhood, device=real.device).precision_recall(generated)


def inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """Mean and standard deviation over splits, after a shuffle with the fixed seed 2020.

    Raises:
        UserError: the feature net has no logits, or there are fewer images than splits.
    """
    if logits.shape[1] == 0:
        raise UserError(
            "Inception Score: the feature net has no logits (DINOv2 is no classifier); "
            "name a classifier or Inception in evaluation.isc_features"
        )
    if len(logits) < splits:
        raise UserError(f"Inception Score: {len(logits)} images for {splits} splits; sample more")
    found = isc_features_to_metric(logits, splits=splits, shuffle=True, rng_seed=SEED)
    return found["inception_score_mean"], found["inception_score_std"]


def scores(name: str, generated: Features, real: Reference, classes: int) -> dict[str, float]:
    """The columns of one feature net ``name`` in ``metrics.parquet``.

    Accuracy is among them if the net's logits are the ``classes`` of the data: DINOv2 has none,
    and Inception's 1,008 are not in the order of ImageNet's 1,000 labels.
    """
    precision, recall = real.precision_recall(generated.features)
    columns = {
        f"fd_{name}": real.frechet_distance(generated.features),
        f"precision_{name}": precision,
        f"recall_{name}": recall,
    }
    if generated.logits.shape[1] == classes:
        right = (generated.logits.argmax(1) == generated.labels).double().mean()
        columns[f"accuracy_{name}"] = right.item()
    return columns


def protocol(
    evaluation: dict[str, Any],
    nets: dict[str, str],
    reference_sha256: str,
    resize: str | dict[str, str] = "none",
) -> dict[str, Any]:
    """Everything that must be equal for two numbers to be compared, and its short id.

    Args:
        evaluation: n_samples, labels, neighbourhood, isc_splits.
        nets: sha256 of the weights of each feature net.
        reference_sha256: hash of the reference images.
        resize: how images are resized before features are taken, for all nets or by name.
    """
    content = {
        **evaluation,
        "seeds": "block of n_samples consecutive seeds: seed * n_samples + i",
        "resize": resize,
        "feature_nets": nets,
        "reference_sha256": reference_sha256,
        "torch_fidelity": torch_fidelity_version,
        "dtype": str(torch.float64),
    }
    return content | {"id": hashlib.sha256(canonical(content).encode()).hexdigest()[:12]}
