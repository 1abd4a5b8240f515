"""A linear probe: multinomial logistic regression on the features of a net that is not ours."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

DECAY = 0.01
"""λ of mean cross-entropy + λ/2 ‖W‖², for features of deviation 1."""


def fit_probe(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (classes, d) and bias (classes,), float32, of the logits of features (N, d).

    Features are standardised for the fit; the result applies to them as they are. Every class
    must be among ``labels`` (N,), and there must be more than two.
    """
    x = features.double()
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-6)
    fit = LogisticRegression(C=1 / (DECAY * len(x)), max_iter=1000)
    fit.fit(((x - mean) / deviation).numpy(), labels.numpy())
    weight = torch.from_numpy(fit.coef_) / deviation
    bias = torch.from_numpy(fit.intercept_) - weight @ mean
    return weight.float(), bias.float()
