import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from mclr.theory.lab.mixtures import (
    Level,
    Mixture,
    World,
    branches,
    guided_score,
    line,
    plane,
    ring,
)

WORLDS = [line(), plane(), ring(), branches()]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_score_is_the_slope_of_the_log_density(world: World) -> None:
    level, h = Level(0.4, 0.8), 1e-5
    rng = np.random.default_rng(0)
    for part in (*world.classes, world.marginal):
        noisy = part.at(level)
        x = noisy.sample(20, rng)
        for axis in range(part.d):
            step = h * np.eye(part.d)[axis]
            slope = (noisy.log_density(x + step) - noisy.log_density(x - step)) / (2 * h)
            np.testing.assert_allclose(noisy.score(x)[:, axis], slope, rtol=1e-6, atol=1e-6)


def test_density_of_noised_samples_integrates_to_one_and_matches_scipy() -> None:
    part = line().classes[0]
    noisy = part.at(Level(0.7, 0.9))
    total, _ = quad(lambda x: float(np.exp(noisy.log_density(np.array([x])))), -15, 15)
    assert total == pytest.approx(1, abs=1e-8)
    x = np.array([0.3])
    scales = 0.9 * np.sqrt(part.variances + 0.49)
    expected = part.weights @ norm.pdf(0.3, 0.9 * part.means[:, 0], scales)
    assert np.exp(noisy.log_density(x)) == pytest.approx(expected, rel=1e-12)


def test_samples_have_the_mixtures_moments() -> None:
    part = line().classes[0]
    x = part.sample(200_000, np.random.default_rng(1))[:, 0]
    mean = part.weights @ part.means[:, 0]
    variance = part.weights @ (part.variances + (part.means[:, 0] - mean) ** 2)
    assert x.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / len(x)))
    assert x.var() == pytest.approx(variance, rel=0.02)


def test_one_noise_level_per_point_gives_each_points_own_density() -> None:
    part, sigma = branches().classes[0], np.array([0.1, 0.5, 2.0])
    x = np.array([[0.1, -0.5], [0.3, 0.2], [1.0, 1.0]])
    together = part.at(Level(sigma)).score(x)
    apart = [part.at(Level(float(s))).score(row) for s, row in zip(sigma, x, strict=True)]
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    denoised = part.denoise(x, sigma)
    np.testing.assert_allclose(denoised, x + sigma[:, None] ** 2 * together, rtol=1e-9)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_marginal_and_others_are_the_classes_mixed(world: World) -> None:
    x = world.marginal.sample(30, np.random.default_rng(2))
    likelihoods = np.exp(world.log_likelihoods(x, Level(0.3)))
    p = np.exp(world.marginal.at(Level(0.3)).log_density(x))
    np.testing.assert_allclose(likelihoods @ world.priors, p, rtol=1e-10)
    rest = np.exp(world.others(0).at(Level(0.3)).log_density(x))
    own = world.priors[0] * likelihoods[:, 0]
    np.testing.assert_allclose(own + (1 - world.priors[0]) * rest, p, rtol=1e-10)


def test_guided_score_without_guidance_is_the_positive_one() -> None:
    world, x = line(), np.array([[0.2], [1.0]])
    own, every = world.classes[1], world.marginal
    np.testing.assert_array_equal(guided_score(own, every, x, 0.0), own.score(x))
    np.testing.assert_allclose(guided_score(own, own, x, 5.0), own.score(x), rtol=1e-12)


def test_branching_toy_is_mirrored_thin_and_shares_its_root() -> None:
    right, left = branches().classes
    np.testing.assert_array_equal(right.means * [-1, 1], left.means)
    assert right.weights.sum() == pytest.approx(1)
    assert len(right.weights) == 6 * (1 + 2 + 4)
    assert np.sqrt(right.variances.max()) < 0.1
    root = right.means[:, 1].argmin()
    assert np.linalg.norm(right.means[root] - left.means[root]) < 2 * np.sqrt(right.variances[root])


def test_mixture_of_one_gaussian_denoises_linearly() -> None:
    part = Mixture(np.ones(1), np.array([[2.0]]), np.array([0.5]))
    y = np.array([[3.0]])
    assert part.denoise(y, 1.0)[0, 0] == pytest.approx(2 + 0.5 / 1.5)
