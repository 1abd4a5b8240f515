from pathlib import Path

import numpy as np
import pytest

from mclr.theory.lab.mixtures import Mixture, line
from mclr.theory.topics import guidance


def gaussian(variance: float) -> Mixture:
    return Mixture(np.ones(1), np.zeros((1, 1)), np.array([variance]))


def test_quantiles_invert_the_distribution_function() -> None:
    mixture, u = line().marginal, guidance.middles(50)
    np.testing.assert_allclose(guidance.cdf(mixture, guidance.quantiles(mixture, u)), u, atol=1e-12)


def test_flow_solves_a_linear_equation_to_fourth_order() -> None:
    def error(steps: int) -> float:
        end = guidance.flow(lambda x, sigma: -x, np.array([[1.0]]), steps, np.e, 1.0)
        return abs(float(end[0, 0]) - np.e)

    assert error(20) < 1e-6
    assert error(10) / error(20) == pytest.approx(16, rel=0.2)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_gaussians_have_the_closed_form(gamma: float) -> None:
    assert guidance.gaussian_error(1.0, 2.0, gamma) < 1e-6
    # a (a/b)^γ in the limit, which is not the powered density's variance
    limit = 0.5**gamma
    assert guidance.gaussian_variance(1.0, 2.0, gamma) == pytest.approx(limit, rel=1e-3)
    powered = 1 / ((1 + gamma) - gamma / 2)
    assert (abs(limit - powered) > 0.1) == (gamma > 0)


def test_powered_density_of_gaussians_is_a_gaussian() -> None:
    x = np.linspace(-8, 8, 4001)
    density = guidance.powered_density(gaussian(1.0), gaussian(2.0), 1.0, x)
    expected = np.exp(-(x**2) * 0.75) / np.sqrt(2 * np.pi / 1.5)
    np.testing.assert_allclose(density, expected, atol=1e-9)


def test_distances_are_zero_for_exact_samples_and_known_for_shifted_ones() -> None:
    own = gaussian(1.0)
    exact = guidance.quantiles(own, guidance.middles(1000))
    np.testing.assert_allclose(guidance.distances(exact, own, own, 0.0), 0, atol=1e-6)
    wasserstein, kolmogorov = guidance.distances(exact + 0.1, own, own, 0.0)
    assert wasserstein == pytest.approx(0.1, abs=1e-6)
    assert kolmogorov == pytest.approx(2 * 0.5199388 - 1, abs=1e-4)


def test_remark_holds_and_its_error_is_far_below_the_distance(tmp_path: Path) -> None:
    statements = {s.id: s for s in guidance.run(tmp_path)}
    assert all(s.holds for s in statements.values())
    assert statements["guidance-not-powered"].deviation < 1e-4
    # CFG's samples at γ = 1 are far from the powered density, as far as from what γ = 0 gives.
    assert guidance.line_distances(1.0)[0] > 0.2
    assert (tmp_path / "guidance.png").is_file()
