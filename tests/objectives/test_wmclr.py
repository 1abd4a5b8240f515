"""Weighted MCLR: with exact scores its optimum is CFG; its loss by hand; its parts add up."""

from __future__ import annotations

import pytest
import torch
from naive import toy
from torch import Tensor

from mclr.likelihood import Draw, denoising_log_likelihood, noise_weight
from mclr.objectives import Wmclr
from mclr.objectives.contrast import Contrast, draw_partners
from mclr.objectives.loss import Batch, Loss
from mclr.objectives.wmclr import wmclr_loss

LABELS = [0, 1, 1, 2, 0, 4, 1]
PRIORS = torch.tensor([0.3, 0.3, 0.2, 0.1, 0.1], dtype=torch.float64)


def rng(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective(**values: float) -> Wmclr:
    return Wmclr.model_validate({"name": "wmclr", "dsm": 0.5, "K": 3, "floor": 0, **values})


def run(part: Tensor, labels: list[int] = LABELS) -> Loss:
    nets = toy("diffusion")
    batch = nets.batch(labels)
    contrast = draw_partners(batch.labels, 3, rng())
    values = torch.randn(len(labels), 5, generator=rng(1), dtype=torch.float64)

    def noisy(candidates: Tensor, rows: Tensor) -> Tensor:
        return values[rows].gather(1, candidates)

    policy = nets.library(nets.policy)
    return wmclr_loss(objective(), policy, noisy, PRIORS, batch, contrast, part)


def test_by_hand() -> None:
    """One sample of class 0 with partners of classes 1 and 2."""
    batch = Batch(torch.zeros(3, 1), torch.tensor([0, 1, 2]), Draw())
    contrast = Contrast(torch.tensor([[1, 2], [0, 2], [0, 1]]), torch.ones(3, dtype=torch.bool))
    likelihoods = torch.tensor([-1.0, -3.0, -2.0], dtype=torch.float64)
    densities = torch.tensor([[0.5, 0.25, 0.125]], dtype=torch.float64)
    found = wmclr_loss(
        objective(dsm=2), lambda x, labels, draw: likelihoods[labels],
        lambda candidates, part: densities[:, candidates[0]].log(), PRIORS, batch, contrast,
        torch.tensor([0]),
    )  # fmt: skip
    marginal = 0.3 * 0.5 + 0.35 * 0.25 + 0.35 * 0.125  # two partners stand for all other classes
    first, second = 0.25 / marginal, 0.125 / marginal
    contrast_term = 0.7 * (first * (-1 + 3) + second * (-1 + 2)) / 6  # 3 samples, 2 partners
    assert found.value.item() == pytest.approx(-contrast_term - 2 * -1 / 3, rel=1e-12)
    assert found.terms["weight"] == pytest.approx(0.7 * (first + second) / 6, rel=1e-12)
    assert found.terms["log_ratio"] == pytest.approx(3 / 6, rel=1e-12)


def test_weights_are_clipped_and_floored() -> None:
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), Draw())
    contrast = draw_partners(batch.labels, 1, rng())
    for values, settings, weight in (
        ([0.0, 9.0], {"clip": 1.25}, 0.7 * 1.25),
        ([9.0, 0.0], {"floor": 0.2}, 0.0),
    ):
        found = wmclr_loss(
            objective(K=1, **settings), lambda x, labels, draw: labels.double(),
            lambda candidates, part, v=values: torch.tensor(v).double()[candidates],
            PRIORS, batch, contrast, torch.tensor([0]),
        )  # fmt: skip
        assert found.terms["weight"] == pytest.approx(weight / 2)


@pytest.mark.parametrize("labels", [LABELS, [3, 3, 3, 3, 3, 3, 0]])
def test_losses_of_parts_add_up(labels: list[int]) -> None:
    whole = run(torch.arange(7), labels)
    parts = [run(torch.tensor(part), labels) for part in ([5, 0], [1, 2, 6], [3, 4])]
    assert sum(p.value.item() for p in parts) == pytest.approx(whole.value.item(), rel=1e-12)
    for name, value in whole.terms.items():
        assert sum(p.terms[name] for p in parts) == pytest.approx(float(value), rel=1e-12)


def test_minibatch_of_one_class_has_its_dsm_term() -> None:
    nets = toy("diffusion")
    batch = nets.batch([3, 3, 3])
    contrast = draw_partners(batch.labels, 3, rng())
    policy = nets.library(nets.policy)
    zero = lambda candidates, part: torch.zeros(candidates.shape, dtype=torch.float64)  # noqa: E731
    found = wmclr_loss(objective(), policy, zero, PRIORS, batch, contrast, torch.arange(3))
    own = policy(batch.x, batch.labels, batch.draw).mean()
    assert found.value.item() == pytest.approx(-0.5 * own.item(), rel=1e-12)


def test_optimum_is_the_cfg_denoiser() -> None:
    """Two Gaussian classes, one σ, exact ratios: the gradient is 0 at CFG's D and only there.

    The score of class c at x_t is linear, so a denoiser per class with free values on a grid of
    x_t is fitted by its own normal equations, from many samples.
    """
    mean, sigma, gamma, n = torch.tensor([-0.4, 0.4]).double(), 0.8, 1.5, 400_000
    labels = torch.randint(2, (n,), generator=rng())
    x = mean[labels] + 0.5 * torch.randn(n, generator=rng(2), dtype=torch.float64)
    epsilon = torch.randn(n, generator=rng(3), dtype=torch.float64)
    x_t, variance = x + sigma * epsilon, 0.25 + sigma**2
    log_density = -((x_t[:, None] - mean) ** 2) / (2 * variance)
    posterior = log_density.softmax(1)
    exact = x_t[:, None] + sigma**2 * (mean - x_t[:, None]) / variance  # D(x_t; c)
    marginal = (posterior * exact).sum(1, keepdim=True)
    guided = exact + gamma * (exact - marginal)
    draw = Draw(torch.full((n,), sigma).double(), epsilon.view(-1, 1, 1, 1))
    batch = Batch(x.view(-1, 1, 1, 1), labels, draw)
    contrast = Contrast(  # any sample of the other class: only its label is used
        torch.where(labels == 0, (labels == 1).nonzero()[0], (labels == 0).nonzero()[0])[:, None],
        torch.ones(n, dtype=torch.bool),
    )

    def slope(denoised: Tensor) -> Tensor:
        """Gradient with respect to a shift of the denoiser, in bins of x_t, per class."""
        shift = torch.zeros(2, 12, dtype=torch.float64, requires_grad=True)
        bins = ((x_t + 2.4) / 0.4).long().clamp(0, 11)

        def denoise(noisy: Tensor, level: Tensor, c: Tensor) -> Tensor:
            rows = torch.arange(len(c)) % n
            return (denoised[rows, c] + shift[c, bins[rows]]).view(-1, 1, 1, 1)

        loss = wmclr_loss(
            objective(dsm=1 / gamma, K=1, clip=1e9),
            lambda x, c, draw: denoising_log_likelihood(denoise, x, c, draw, 0.5),
            lambda candidates, part: log_density[part].gather(1, candidates),
            torch.tensor([0.5, 0.5]).double(), batch, contrast, torch.arange(n),
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(loss.value, shift)
        return gradient / noise_weight(torch.tensor(sigma), 0.5)

    at_optimum, at_base = slope(guided).abs(), slope(exact).abs()
    # The mean of 400,000 terms of size 1, in a class and bin: standard error below 0.002.
    assert at_optimum.max() < 0.008
    assert at_base.max() > 5 * at_optimum.max()
