"""The library's losses and metrics equal the plain ones that the benchmark times beside them."""

from __future__ import annotations

import plain_steps as plain
import pytest
import torch
from torch import Tensor

from mclr.config.objectives import Cca, CcDpo, Ddo, Mclr
from mclr.data.load import step_generator
from mclr.likelihood import Draw
from mclr.metrics.scores import frechet_distance, inception_score, precision_recall
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import draw_partners
from mclr.objectives.ddo import ddo_loss
from mclr.objectives.loss import Batch, Loss
from mclr.objectives.mclr import mclr_loss

N = 12


def ell(x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
    assert draw.sigma is not None
    return (x.sum(1) * (labels + 1)).sin() * 3 + draw.sigma


def ell_ref(x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
    assert draw.sigma is not None
    return (x.sum(1) * (labels + 2)).cos() - draw.sigma


def batch(seed: int) -> Batch:
    x, epsilon = torch.randn(2, N, 3, generator=step_generator(seed), dtype=torch.float64)
    return Batch(x, torch.arange(N) % 4, Draw(x[:, 0].exp(), epsilon))


@pytest.mark.parametrize("name", ["mclr", "ccdpo", "cca", "ddo"])
def test_losses(name: str) -> None:
    data, every = batch(1), torch.arange(N)
    contrast = draw_partners(data.labels, 4, step_generator(2))
    found: Loss
    if name == "mclr":
        found = mclr_loss(Mclr(name="mclr", K=4), ell, data, contrast, every)
        expected = plain.mclr(ell, data, contrast.index)
    elif name == "ccdpo":
        dpo = CcDpo(name="ccdpo", beta=0.3, K=4)
        found = ccdpo_loss(dpo, ell, ell_ref, data, contrast, every)
        expected = plain.ccdpo(ell, ell_ref, data, contrast.index, 0.3)
    elif name == "cca":
        cca = Cca(name="cca", beta=0.3, lam=2, K=4)
        found = cca_loss(cca, ell, ell_ref, data, contrast, every)
        expected = plain.cca(ell, ell_ref, data, contrast.index, 0.3, 2)
    else:
        ddo = Ddo(name="ddo", alpha=2, beta=0.3, n_negatives=N)
        found = ddo_loss(ddo, ell, ell_ref, data, batch(3), every)
        expected = plain.ddo(ell, ell_ref, data, batch(3), 0.3, 2)
    torch.testing.assert_close(found.value, expected, rtol=1e-12, atol=0)


def test_metrics() -> None:
    a, b = torch.randn(2, 300, 5, generator=step_generator(1), dtype=torch.float64)
    b = b * 1.2 + 0.1
    assert frechet_distance(a, b) == pytest.approx(plain.frechet(a.numpy(), b.numpy()), rel=1e-8)
    assert precision_recall(a, b, 3) == pytest.approx(plain.precision_recall(a, b, 3), abs=1e-7)
    # With one split the order of the images does not matter.
    assert inception_score(a, 1)[0] == pytest.approx(plain.inception_score(a, 1), rel=1e-9)
