import math

import pytest
import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.likelihood import draw_levels, noise_level_log_likelihood
from mclr.objectives.weights import class_posterior_weights

PRIORS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def test_ratios_are_likelihoods_over_their_mean() -> None:
    p = torch.tensor([[0.2, 0.1, 0.4], [0.3, 0.3, 0.3]], dtype=torch.float64)
    found = class_posterior_weights(p.log(), PRIORS, 1e9)
    torch.testing.assert_close(found, p / (p @ PRIORS)[:, None])
    torch.testing.assert_close(found @ PRIORS, torch.ones(2, dtype=torch.float64))


def test_constants_per_row_and_the_scale_of_priors_do_not_matter() -> None:
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    found = class_posterior_weights(values, PRIORS, 1e9)
    shifted = class_posterior_weights(values - 1000, 10 * PRIORS, 1e9)
    torch.testing.assert_close(found, shifted)
    counts = torch.tensor([5, 3, 2])
    torch.testing.assert_close(found, class_posterior_weights(values, counts, 1e9))


def test_priors_may_differ_by_row_and_leave_candidates_out() -> None:
    p = torch.tensor([[0.2, 0.1, 0.4], [0.3, 0.6, 0.1]], dtype=torch.float64)
    rows = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    found = class_posterior_weights(p.log(), rows, 1e9)
    torch.testing.assert_close(found[0], p[0] / 0.3)
    torch.testing.assert_close(found[1], p[1] / 0.6)


def test_equal_likelihoods_give_ones_and_the_clip_is_the_largest_ratio() -> None:
    assert (class_posterior_weights(torch.zeros(2, 3), PRIORS, 1.0) == 1).all()
    sharp = torch.tensor([[0.0, -500.0, 500.0]])
    found = class_posterior_weights(sharp, PRIORS, 3.0)
    assert found.tolist() == [[0.0, 0.0, 3.0]]
    unclipped = class_posterior_weights(sharp, PRIORS, 100.0)
    assert unclipped[0, 2].item() == pytest.approx(5)


def test_ratios_below_the_floor_are_dropped() -> None:
    p = torch.tensor([[0.2, 0.1, 0.4]], dtype=torch.float64)
    plain = class_posterior_weights(p.log(), PRIORS, 1e9)
    found = class_posterior_weights(p.log(), PRIORS, 1e9, floor=0.5)
    torch.testing.assert_close(found, plain * torch.tensor([[1, 0, 1]]))


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_an_impossible_floor_is_refused(floor: float) -> None:
    with pytest.raises(UserError, match=r"floor .*expected"):
        class_posterior_weights(torch.zeros(1, 3), PRIORS, 5.0, floor)


def test_weights_have_no_gradient() -> None:
    values = torch.zeros(2, 3, requires_grad=True)
    assert not class_posterior_weights(values, PRIORS, 5.0).requires_grad


@pytest.mark.parametrize("clip", [0.0, 0.5, -1.0, math.nan])
def test_a_clip_below_one_is_refused(clip: float) -> None:
    with pytest.raises(UserError, match=r"clip .*at least 1"):
        class_posterior_weights(torch.zeros(1, 3), PRIORS, clip)


@pytest.mark.parametrize("priors", [[0.0, 0.0, 0.0], [0.5, -0.1, 0.6]])
def test_impossible_priors_are_refused(priors: list[float]) -> None:
    with pytest.raises(UserError, match="priors: expected"):
        class_posterior_weights(torch.zeros(1, 3), torch.tensor(priors), 5.0)


def test_draws_are_one_in_each_part_and_repeatable() -> None:
    x = torch.zeros(6, 1, 2, 2)
    draw = draw_levels(x, 4, torch.Generator().manual_seed(0))
    assert draw.epsilon.shape == (4, 6, 1, 2, 2)
    assert ((draw.u * 4).floor() == torch.arange(4)[:, None]).all()
    again = draw_levels(x, 4, torch.Generator().manual_seed(0))
    assert torch.equal(draw.u, again.u)
    assert torch.equal(draw.epsilon, again.epsilon)


MEANS = torch.tensor([-0.5, 1.0], dtype=torch.float64)
SPREAD = 0.6


def denoise_gaussian(noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
    """Exact for classes N(mean_c, 0.6² I) over images (N, 1, 2, 2)."""
    gain = (SPREAD**2 / (SPREAD**2 + sigma**2)).view(-1, 1, 1, 1)
    mean = MEANS[labels].view(-1, 1, 1, 1)
    return mean + gain * (noisy - mean)


def log_ratio(x_t: Tensor, sigma: float, M: int, seed: int) -> Tensor:
    draw = draw_levels(x_t, M, torch.Generator().manual_seed(seed))
    sigmas = torch.full((len(x_t),), sigma, dtype=torch.float64)
    a, b = (
        noise_level_log_likelihood(
            denoise_gaussian, x_t, sigmas, torch.full((len(x_t),), c), draw, SPREAD
        )
        for c in (0, 1)
    )
    return a - b


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_noise_level_likelihood_ratio_is_the_exact_one(sigma: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(5, 1, 2, 2, generator=generator, dtype=torch.float64)
    flat, variance = x_t.flatten(1), SPREAD**2 + sigma**2
    square = [((flat - mean) ** 2).sum(1) for mean in MEANS]
    exact = (square[1] - square[0]) / (2 * variance)
    runs = torch.stack([log_ratio(x_t, sigma, 64, seed) for seed in range(40)])
    error = runs.mean(0) - exact
    standard_error = runs.std(0) / math.sqrt(len(runs))
    assert (error.abs() < 4 * standard_error + 1e-9).all()
    assert runs.std(0).max() < 0.5


def test_noise_level_likelihood_has_no_gradient() -> None:
    x_t = torch.zeros(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    draw = draw_levels(x_t.detach(), 2, torch.Generator().manual_seed(0))
    sigma = torch.ones(2, dtype=torch.float64)
    labels = torch.zeros(2, dtype=torch.long)
    found = noise_level_log_likelihood(denoise_gaussian, x_t, sigma, labels, draw, SPREAD)
    assert found.shape == (2,)
    assert not found.requires_grad
