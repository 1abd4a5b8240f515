"""FD, Inception Score, precision and recall of features, computed by torch-fidelity.

Features are passed in float64: in float32 torch-fidelity's means and distances lose digits.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torch_fidelity.version import __version__ as torch_fidelity_version

from mclr.config import canonical
from mclr.metrics.features import Features


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """FD between Gaussians fitted to features (N, d) and (M, d); covariance with N − 1."""
    statistics = [fid_features_to_statistics(features) for features in (generated, real)]
    score: float = fid_statistics_to_metric(*statistics, verbose=False)[
        "frechet_inception_distance"
    ]
    return score


def precision_recall(generated: Tensor, real: Tensor, neighbourhood: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019) with k-th neighbour radii, ≤."""
    found = prc_features_to_metric(
        generated, real, prc_neighborhood=neighbourhood, prc_batch_size=10_000,
        save_cpu_ram=len(real) > 20_000, verbose=False,
    )  # fmt: skip
    return found["precision"], found["recall"]


def inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """Mean and standard deviation over splits, after a shuffle with the fixed seed 2020."""
    found = isc_features_to_metric(logits, splits=splits, shuffle=True, rng_seed=2020)
    return found["inception_score_mean"], found["inception_score_std"]


def scores(name: str, generated: Features, real: Features, neighbourhood: int) -> dict[str, float]:
    """The columns of one feature net ``name`` in ``metrics.parquet``."""
    precision, recall = precision_recall(generated.features, real.features, neighbourhood)
    right = (generated.logits.argmax(1) == generated.labels).double().mean().item()
    return {
        f"fd_{name}": frechet_distance(generated.features, real.features),
        f"precision_{name}": precision,
        f"recall_{name}": recall,
        f"accuracy_{name}": right,
    }


def protocol(
    evaluation: dict[str, Any], nets: dict[str, str], reference_sha256: str
) -> dict[str, Any]:
    """Everything that must be equal for two numbers to be compared, and its short id.

    Args:
        evaluation: n_samples, labels, neighbourhood, isc_splits.
        nets: sha256 of the weights of each feature net.
        reference_sha256: hash of the reference images.
    """
    content = {
        **evaluation,
        "seeds": "block of n_samples consecutive seeds: seed * n_samples + i",
        "resize": "none",
        "feature_nets": nets,
        "reference_sha256": reference_sha256,
        "torch_fidelity": torch_fidelity_version,
        "dtype": str(torch.float64),
    }
    return content | {"id": hashlib.sha256(canonical(content).encode()).hexdigest()[:12]}
