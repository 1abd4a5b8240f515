"""How far FD of n samples lies above FD of infinitely many: its bias, c / n to first order.

n samples have the mean μ + h and the covariance Σ + H. Between equal distributions that adds to FD
|h|² and, in the axes of Σ with its eigenvalues λ, ½ Σ_ij H_ij² / (λ_i + λ_j), the metric of Bures
and Wasserstein. Expectations of h² and H_ij² are variances of one sample over n. The deviation of
FD over draws falls as 1 / √n.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mclr.planning.files import net_folder
from mclr.planning.plan import Plan


# c = tr V + ½ Σ_ij V_ij / (λ_i + λ_j), V and V_ij of one sample, x and x_i x_j in the axes of Σ;
# d = 1 and Gaussian: 3/2 λ. With as many samples of each class, V are means within the classes.
def bias_constant(features: Tensor, labels: Tensor | None = None) -> float:
    """c of features (N, d) of real images, in units of FD; moments are the features' own.

    labels (N,): of the images, if samples have classes in their proportions; None if labels are
    random.
    """
    x = features.double()
    x = x - x.mean(0)
    values, axes = torch.linalg.eigh(x.T @ x / len(x))
    x, values = x @ axes, values.clamp(min=0)
    classes = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels
    first, second = x.square().mean(0), x.square().T @ x.square() / len(x)
    for label in classes.unique():
        own = x[classes == label]
        share, product = len(own) / len(x), own.T @ own / len(own)
        first = first - share * own.mean(0).square()
        second = second - share * product.square()
    sums = values[:, None] + values
    used = sums > 1e-9 * values.max()
    return float(first.sum() + (second[used] / sums[used]).sum() / 2)


def bias_constants(plan: Plan, results: Path) -> dict[str, float]:
    """c of each model's images by the feature net of Table 1, where its features exist already."""
    from mclr.metrics.features import read_features

    name, found = plan.tier.report.nets[0], {}
    is_stratified = plan.tier.evaluation.labels != "random"
    for model, settings in plan.tier.models.items():
        folder = results / "feature-nets" / net_folder(name, settings.resolution)
        file = folder / "reference.parquet"
        if file.is_file():
            real = read_features([file], name)
            found[model] = bias_constant(
                real.features.double(), real.labels if is_stratified else None
            )
    return found
