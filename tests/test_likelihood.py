"""Log-likelihoods against closed forms and loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mclr.likelihood import (
    Draw,
    denoising_log_likelihood,
    draw_noise,
    noise_weight,
    token_log_likelihood,
)

D = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_weight() -> None:
    """w(σ) = 1/σ_d² + 1/σ²."""
    sigma = torch.tensor([0.01, 0.5, 80.0], dtype=D)
    torch.testing.assert_close(noise_weight(sigma, 0.5), 4 + sigma**-2, rtol=1e-14, atol=0)


def test_linear_denoiser_in_closed_form() -> None:
    """D(y; σ, c) = a·y + c: x − D = (1 − a)·x − a·σε − c, squared by hand."""
    a, sigma_data = 0.3, 0.5
    x = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=D).view(2, 1, 1, 2)
    sigma, c = torch.tensor([0.7, 2.0], dtype=D), torch.tensor([1, 2])
    epsilon = torch.tensor([[0.1, 0.4], [-1.0, 3.0]], dtype=D).view(2, 1, 1, 2)

    def denoise(y: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        assert torch.equal(noise, sigma)
        return a * y + labels.view(-1, 1, 1, 1)

    found = denoising_log_likelihood(denoise, x, c, Draw(sigma, epsilon), sigma_data)
    for i, (s, label) in enumerate(((0.7, 1), (2.0, 2))):
        w = (s**2 + 0.25) / (s * 0.5) ** 2
        terms = [
            (1 - a) * xi - a * s * e - label
            for xi, e in zip(x[i].flatten().tolist(), epsilon[i].flatten().tolist(), strict=True)
        ]
        assert found[i].item() == pytest.approx(-w * sum(t * t for t in terms), rel=1e-14)


def test_perfect_denoiser_has_likelihood_zero() -> None:
    x = torch.randn(3, 2, 4, 4, generator=generator())
    draw = draw_noise(x, -0.8, 1.6, generator())
    found = denoising_log_likelihood(lambda y, s, c: x, x, torch.zeros(3), draw, 0.5)
    assert torch.equal(found, torch.zeros(3))


def test_denoising_needs_a_draw() -> None:
    with pytest.raises(ValueError, match="needs a noise draw"):
        denoising_log_likelihood(
            lambda y, s, c: y, torch.ones(1, 1, 1, 1), torch.ones(1), Draw(), 1
        )


def test_draw_noise() -> None:
    """ln σ ~ N(P_mean, P_std²), ε ~ N(0, I), one each per row, decided by the generator."""
    x = torch.zeros(20_000, 1, 1, 2)
    draw = draw_noise(x, -0.8, 1.6, generator(3))
    assert draw.sigma is not None and draw.epsilon is not None
    assert draw.sigma.shape == (20_000,) and draw.epsilon.shape == x.shape
    log = draw.sigma.log()
    assert log.mean().item() == pytest.approx(-0.8, abs=5 * 1.6 / math.sqrt(20_000))
    assert log.std().item() == pytest.approx(1.6, rel=0.03)
    assert draw.epsilon.mean().item() == pytest.approx(0, abs=0.03)
    assert draw.epsilon.std().item() == pytest.approx(1, rel=0.03)
    again = draw_noise(x, -0.8, 1.6, generator(3))
    assert torch.equal(again.sigma, draw.sigma)  # type: ignore[arg-type]


def test_take_and_join() -> None:
    draw = Draw(torch.arange(4.0), torch.arange(8.0).view(4, 1, 1, 2))
    taken = draw.take(torch.tensor([2, 2, 0]))
    assert taken.sigma is not None and taken.epsilon is not None
    assert taken.sigma.tolist() == [2, 2, 0]
    assert taken.epsilon.flatten(1).tolist() == [[4, 5], [4, 5], [0, 1]]
    joined = taken.join(draw)
    assert joined.sigma is not None and joined.epsilon is not None
    assert joined.sigma.tolist() == [2, 2, 0, 0, 1, 2, 3]
    assert joined.epsilon.shape == (7, 1, 1, 2)
    assert Draw().take(torch.tensor([0])) == Draw() and Draw().join(Draw()) == Draw()


def test_token_likelihood_against_a_loop() -> None:
    logits = torch.randn(3, 5, 7, generator=generator(), dtype=D)
    tokens = torch.randint(7, (3, 5), generator=generator())
    found = token_log_likelihood(logits, tokens)
    assert found.dtype == D
    for n in range(3):
        total = 0.0
        for position in range(5):
            row = logits[n, position].tolist()
            total += row[tokens[n, position]] - math.log(sum(math.exp(v) for v in row))
        assert found[n].item() == pytest.approx(total, rel=1e-13)


def test_token_likelihood_of_uniform_logits() -> None:
    found = token_log_likelihood(torch.zeros(2, 6, 8), torch.zeros(2, 6, dtype=torch.long))
    assert found.tolist() == pytest.approx([-6 * math.log(8)] * 2)


def test_token_likelihood_of_half_precision_logits() -> None:
    logits = torch.randn(2, 30, 50, generator=generator()).to(torch.bfloat16)
    tokens = torch.randint(50, (2, 30), generator=generator())
    found = token_log_likelihood(logits, tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, token_log_likelihood(logits.float(), tokens))
