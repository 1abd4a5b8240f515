from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mclr.theory.lab.mixtures import Level, branches
from mclr.theory.topics import mixture_denoiser, mixture_denoiser_net
from mclr.theory.topics.mixture_denoiser_net import (
    Denoiser,
    contrast,
    copy_of,
    draw_points,
    dsm,
    train,
)

WORLD = branches()


class Exact(Denoiser):
    """The world's own denoiser, guided with strength γ."""

    def __init__(self, gamma: float) -> None:
        super().__init__(2, torch.Generator())
        self.gamma = gamma

    def forward(self, y: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        points, level, c = y.double().numpy(), float(sigma[0]), int(labels[0])
        own = WORLD.classes[c].denoise(points, level)
        guided = own + self.gamma * (own - WORLD.marginal.denoise(points, level))
        return torch.from_numpy(guided)


def test_distances_of_exact_fields() -> None:
    plain, cfg = Exact(0.0), Exact(1.0)
    at_cfg = mixture_denoiser.measure(WORLD, cfg, plain)
    assert at_cfg.to_cfg < 1e-5
    assert at_cfg.to_conditional == pytest.approx(1, abs=1e-5)
    assert at_cfg.cosine == pytest.approx(1, abs=1e-5)
    at_plain = mixture_denoiser.measure(WORLD, plain, plain)
    assert at_plain.to_cfg == pytest.approx(1, abs=1e-5)
    assert at_plain.to_conditional < 1e-5
    assert np.isnan(at_plain.cosine)
    assert mixture_denoiser.measure(WORLD, Exact(-1.0), plain).cosine == pytest.approx(-1, abs=1e-5)


def test_points_are_of_their_class_and_partners_of_another() -> None:
    batch = draw_points(WORLD, 4000, np.random.default_rng(0))
    assert (batch.labels != batch.others).all()
    for c, part in enumerate(WORLD.classes):
        mean = batch.x[batch.labels == c].mean(0)
        np.testing.assert_allclose(mean, part.weights @ part.means, atol=0.05)
    noise = (batch.y - batch.x) / batch.sigma[:, None]
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_exact_ratio_is_a_ratio_of_densities() -> None:
    batch = draw_points(WORLD, 50, np.random.default_rng(0))
    found = mixture_denoiser_net.exact_ratio(WORLD, batch)
    y = batch.y.double().numpy()
    for i in (0, 20, 49):
        level = Level(float(batch.sigma[i]))
        other = WORLD.classes[int(batch.others[i])].at(level).log_density(y[i])
        marginal = WORLD.marginal.at(level).log_density(y[i])
        assert found[i].item() == pytest.approx(float(np.exp(other - marginal)), rel=1e-4, abs=1e-6)


def test_estimated_ratio_of_the_exact_denoiser_nears_the_exact_ratio() -> None:
    class PerRow(Exact):
        def forward(
            self, y: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor
        ) -> torch.Tensor:
            part = WORLD.classes[int(labels[0])]
            denoised = part.denoise(y.double().numpy(), sigma.double().numpy())
            return torch.from_numpy(denoised).float()

    batch = draw_points(WORLD, 60, np.random.default_rng(3))
    exact = mixture_denoiser_net.exact_ratio(WORLD, batch)

    def error(M: int) -> float:
        generator = torch.Generator().manual_seed(0)
        estimate = mixture_denoiser_net.EstimatedRatio(PerRow(0.0), M, 0.0, generator)
        return (estimate(WORLD, batch) - exact).abs().mean().item()

    assert error(1) < (1 - exact).abs().mean().item()
    assert error(64) < 0.05


def test_weighted_loss_is_least_at_cfg_and_dsm_at_the_conditional_score() -> None:
    losses = {
        name: partial(contrast, anchor=1.0, ratio=mixture_denoiser_net.exact_ratio)
        if name == "weighted"
        else dsm
        for name in ("weighted", "dsm")
    }

    def value(name: str, gamma: float) -> float:
        net, total = Exact(gamma), 0.0
        for sigma in (0.3, 0.6):
            for c in (0, 1):
                batch = draw_points(WORLD, 3000, np.random.default_rng(1))
                keep = batch.labels == c
                at = torch.full_like(batch.sigma[keep], sigma)
                noise = (batch.y - batch.x)[keep] / batch.sigma[keep, None]
                points = mixture_denoiser_net.Points(
                    batch.x[keep],
                    batch.x[keep] + sigma * noise,
                    at,
                    batch.labels[keep],
                    batch.others[keep],
                )
                total += losses[name](net, WORLD, points).item()
        return total

    assert value("weighted", 1.0) < value("weighted", 0.0)
    assert value("weighted", 1.0) < value("weighted", 3.0)
    assert value("dsm", 0.0) < value("dsm", 1.0)


def test_training_is_repeatable_and_improves_the_fit() -> None:
    ends = []
    for _ in range(2):
        net = Denoiser(2, torch.Generator().manual_seed(0))
        before = mixture_denoiser.measure(WORLD, net, net).to_conditional
        train(net, dsm, WORLD, 150, 3e-3, seed=0)
        ends.append(mixture_denoiser.measure(WORLD, net, net).to_conditional)
    assert ends[0] == ends[1]
    assert ends[0] < before / 2


def test_a_copy_is_trained_apart() -> None:
    net = Denoiser(2, torch.Generator().manual_seed(0))
    twin = copy_of(net)
    train(twin, dsm, WORLD, 2, 1e-2, seed=0)
    assert any(
        not torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True)
    )


def test_short_run_writes_figure_and_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "BASE_STEPS": 300,
        "TUNE_STEPS": 20,
        "PROBES": (5, 20),
        "SEEDS": (1,),
    }.items():
        monkeypatch.setattr(mixture_denoiser, name, value)
    monkeypatch.setattr("mclr.theory.topics.mixture_denoiser_figure.POINTS", 50)
    statements = {s.id: s for s in mixture_denoiser.run(tmp_path)}
    assert set(statements) == {
        "denoiser-weighted",
        "denoiser-estimated",
        "denoiser-one-draw",
        "denoiser-mclr-towards",
        "denoiser-mclr-away",
    }
    assert statements["denoiser-weighted"].deviation < 1
    assert (tmp_path / "mixture_denoiser.pdf").is_file()
