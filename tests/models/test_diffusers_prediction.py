"""Predictions of diffusers' networks as denoisers: closed forms, and diffusers' own schedules."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from mclr.data.load import step_generator
from mclr.errors import UserError
from mclr.models.diffusers.prediction import (
    DENOISED,
    TARGET,
    FlowLevels,
    VpLevels,
    denoised_by_epsilon,
    denoised_by_flow,
    denoised_by_sample,
    denoised_by_v,
)

SIGMA = torch.tensor([0.01, 0.3, 1.0, 7.0, 90.0], dtype=torch.float64).view(-1, 1)
GENERATOR = step_generator(3)
X, EPSILON = (torch.randn(5, 6, dtype=torch.float64, generator=GENERATOR) for _ in range(2))
NOISY = X + SIGMA * EPSILON


@pytest.mark.parametrize("kind", DENOISED)
def test_a_perfect_prediction_denoises_exactly(kind: str) -> None:
    found = DENOISED[kind](NOISY, TARGET[kind](X, EPSILON, SIGMA), SIGMA)
    torch.testing.assert_close(found, X, rtol=0, atol=1e-13 * 90)


def test_the_equations_as_written_in_the_papers() -> None:
    """From x_t as the papers have it: their x_0 of it is our D."""
    alpha_bar = 1 / (1 + SIGMA**2)
    x_t, prediction = alpha_bar.sqrt() * NOISY, torch.randn_like(X)
    by_epsilon = (x_t - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()
    torch.testing.assert_close(denoised_by_epsilon(NOISY, prediction, SIGMA), by_epsilon)
    by_v = alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * prediction
    torch.testing.assert_close(denoised_by_v(NOISY, prediction, SIGMA), by_v)
    assert denoised_by_sample(NOISY, prediction, SIGMA) is prediction
    t = SIGMA / (1 + SIGMA)
    by_flow = (1 - t) * NOISY - t * prediction
    torch.testing.assert_close(denoised_by_flow(NOISY, prediction, SIGMA), by_flow)


def gaussian(x: Tensor, s: float) -> Tensor:
    """E[x | x + σε] for x ~ N(0, s²): the optimal denoiser."""
    return x * s**2 / (s**2 + SIGMA**2)


@pytest.mark.parametrize("kind", DENOISED)
def test_the_optimal_network_is_the_optimal_denoiser(kind: str) -> None:
    """The best prediction is E[target | x + σε], and targets are linear in x and ε."""
    x = gaussian(NOISY, 0.7)
    best = TARGET[kind](x, (NOISY - x) / SIGMA, SIGMA)
    torch.testing.assert_close(DENOISED[kind](NOISY, best, SIGMA), x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_as_diffusers_has_it(schedule: str, kind: str) -> None:
    """At each step t: what the network sees is ``add_noise``; its x_0 is DDIM's ``step``."""
    config = {"beta_schedule": schedule, "prediction_type": kind, "clip_sample": False}
    scheduler: Any = cast(Any, DDIMScheduler)(**config)
    scheduler.set_timesteps(1000)
    levels = VpLevels(scheduler.alphas_cumprod)
    generator = step_generator(1)
    x, epsilon, out = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(3))
    for t in (0, 1, 300, 998):
        sigma = levels.sigma_of(torch.tensor(float(t)))
        assert levels.time_of(sigma).item() == pytest.approx(t, abs=1e-3)
        noisy = x + sigma * epsilon
        seen = levels.scale_of(sigma) * noisy
        torch.testing.assert_close(seen, scheduler.add_noise(x, epsilon, torch.tensor([t] * 3)))
        theirs = scheduler.step(out, t, seen).pred_original_sample
        large = max(1.0, sigma.item())
        torch.testing.assert_close(
            DENOISED[kind](noisy, out, sigma), theirs, rtol=1e-4, atol=1e-4 * large
        )


def test_flow_matching_as_diffusers_has_it() -> None:
    scheduler: Any = cast(Any, FlowMatchEulerDiscreteScheduler)(shift=3.0)
    levels = FlowLevels(scheduler.config.num_train_timesteps)
    x, epsilon = X.float(), EPSILON.float()
    for t in scheduler.timesteps[[1, 500, 999]]:
        sigma = levels.sigma_of(t)
        assert levels.time_of(sigma).item() == pytest.approx(t.item(), rel=1e-5)
        seen = levels.scale_of(sigma) * (x + sigma * epsilon)
        torch.testing.assert_close(seen, scheduler.scale_noise(x, t[None], epsilon))


def test_between_steps_ln_sigma_is_linear_in_t() -> None:
    levels = VpLevels(cast(Any, DDPMScheduler)().alphas_cumprod)
    ends = levels.sigma_of(torch.tensor([40.0, 41.0]))
    middle = ends.prod().sqrt()
    assert levels.time_of(middle).item() == pytest.approx(40.5, abs=1e-3)
    times = levels.time_of(torch.tensor([1e-6, 1e6]))
    assert times.tolist() == [0, 999]  # the ends of the schedule


def test_pure_noise_at_the_end_has_no_level() -> None:
    betas: Any = {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear"}
    levels = VpLevels(cast(Any, DDIMScheduler)(**betas).alphas_cumprod)
    assert levels.sigma_of(torch.tensor([999.0])).isfinite().all()
    with pytest.raises(UserError, match="betas"):
        VpLevels(torch.ones(5))
