"""FD's bias with the number of samples: closed forms, and draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mclr.cost.fd_error import bias_constant, bias_constants
from mclr.metrics.features import write_features
from mclr.planning.plan import Plan


def test_a_gaussian_of_one_dimension() -> None:
    """|μ̂ − μ|² gives λ / n and (σ̂ − σ)² half as much: c = 3/2 λ."""
    x = 3 * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    assert bias_constant(x) == pytest.approx(1.5 * 9, rel=0.02)


def test_isotropic_gaussians() -> None:
    """c = λ (d + d (d + 1) / 4)."""
    d = 6
    x = torch.randn(200_000, d, generator=torch.Generator().manual_seed(0))
    assert bias_constant(x) == pytest.approx(d + d * (d + 1) / 4, rel=0.02)


def test_two_points_have_no_error_but_that_of_the_mean() -> None:
    """x = ±1: every sample has x² = 1."""
    x = torch.tensor([[1.0], [-1.0]]).repeat(50, 1)
    assert bias_constant(x) == pytest.approx(1)
    assert bias_constant(x, torch.tensor([0, 1]).repeat(50)) == pytest.approx(0)


def test_a_feature_that_is_always_the_same_adds_nothing() -> None:
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
    constant = torch.cat([x, torch.full((1000, 1), 5.0)], dim=1)
    assert bias_constant(constant) == pytest.approx(bias_constant(x))


@pytest.mark.parametrize("balanced", [False, True])
def test_fd_of_draws_has_this_bias(balanced: bool) -> None:
    """Two classes apart from each other; FD of n = 400 samples to the population, 600 times."""
    n, draws, shift = 400, 600, torch.tensor([2.0, 0.0])
    random = torch.Generator().manual_seed(2)

    def sample(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 2
        if not balanced:
            labels = torch.randint(2, (count,), generator=random)
        x = torch.randn(count, 2, generator=random, dtype=torch.float64)
        return x + (2 * labels[:, None] - 1) * shift, labels

    c = bias_constant(sample(100_000)[0], torch.arange(100_000) % 2 if balanced else None)
    sigma = torch.tensor([[5.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    distances = []
    for _ in range(draws):
        x = sample(n)[0]
        roots = torch.linalg.eigvals(torch.cov(x.T) @ sigma).real.sqrt().sum()
        distances.append(x.mean(0).square().sum() + torch.cov(x.T).trace() + 6 - 2 * roots)
    found = torch.stack(distances)
    error = 3 * found.std() / draws**0.5
    assert abs(found.mean() - c / n) < error + 0.03 * c / n


def test_the_features_of_a_tier_tell_its_bias(tiny_plan: Plan, tmp_path: Path) -> None:
    """Balanced labels, as the tier samples them; nothing is told before the features exist."""

    class Pixels(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.float().flatten(1), torch.empty(len(images), 0)

    assert bias_constants(tiny_plan, tmp_path) == {}
    images = torch.randint(9, (60, 1, 2, 2), generator=torch.Generator().manual_seed(3)).byte()
    labels = torch.arange(60) % 10
    folder = tmp_path / "feature-nets" / "cnn"
    write_features(folder / "reference.parquet", {"cnn": Pixels()}, images, labels)
    c = bias_constant(images.flatten(1), labels)
    assert bias_constants(tiny_plan, tmp_path) == pytest.approx({"edm2": c, "var": c})
