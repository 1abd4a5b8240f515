from pathlib import Path

import numpy as np
import pytest

from mclr.theory.lab.mixtures import Level, line, ring
from mclr.theory.lab.score_matching import grid_1d
from mclr.theory.lab.tabular import positive_worlds
from mclr.theory.topics import weighted, weighted_estimate, weighted_losses
from mclr.theory.topics.weighted_losses import at_noise_level, distance, of_clean_sample

GRID, LINE = grid_1d(-3, 3.5, 15, step=0.04), line()


def test_ratios_are_exact_in_tables_and_mixtures() -> None:
    assert weighted.table_error(positive_worlds()[0]) < 1e-13
    for level in (Level(0.1), Level(3.0)):
        assert weighted.mixture_error(ring(), level) < 1e-11


def test_ratio_before_the_difference_gives_cfg_with_other_classes_only() -> None:
    assert distance(GRID, LINE, at_noise_level, 1.0) < 1e-10
    assert distance(GRID, LINE, at_noise_level, 0.9) > 1e-3


def test_equation_23_with_other_classes_only_does_not() -> None:
    assert distance(GRID, LINE, at_noise_level, 1.0, difference=False) > 0.01


def test_ratio_of_the_clean_sample_leaves_the_conditional_score() -> None:
    assert distance(GRID, LINE, of_clean_sample, 0.0) < 1e-10
    assert distance(GRID, LINE, of_clean_sample, 1.0) > 0.1


def test_strength_reached_is_the_strength_asked_for_theorem_3s_ratio() -> None:
    for sigma in (0.3, 1.5):
        along, lost = weighted_losses.strength_reached(GRID, LINE, Level(sigma), at_noise_level, 1)
        assert along == pytest.approx(1, abs=1e-10)
        assert lost == 0


def test_exact_likelihoods_without_noise_give_plain_maximum_likelihood() -> None:
    assert weighted.table_optimum_error(positive_worlds()[0]) < 1e-7


def test_noise_level_elbo_is_unbiased_and_sharpens() -> None:
    assert weighted_estimate.log_ratio_bias(M=4, repeats=100) < 4
    x_t = LINE.marginal.at(Level(0.4)).sample(50, np.random.default_rng(0))
    exact = LINE.log_likelihoods(x_t, Level(0.4))
    exact = exact - exact.mean(1, keepdims=True)

    def error(M: int) -> float:
        found = weighted_estimate.elbo_log_likelihoods(LINE, x_t, 0.4, M, seed=0)
        return float(np.abs(found - found.mean(1, keepdims=True) - exact).mean())

    assert error(256) < error(4) / 3


def test_partners_stand_for_the_other_classes() -> None:
    world = ring(4)
    rng = np.random.default_rng(0)
    x_t = world.marginal.at(Level(0.4)).sample(40, rng)
    values = world.log_likelihoods(x_t, Level(0.4))
    own = rng.integers(4, size=40)
    exact = weighted_estimate.posterior(values, world.priors)
    np.testing.assert_allclose(exact.sum(1), 1, rtol=1e-12)
    runs = [weighted_estimate._with_partners(values, own, 300, rng) for _ in range(5)]
    np.testing.assert_allclose(np.mean(runs, axis=0), exact, atol=0.03)


def test_statements_hold_but_for_the_reading_without_the_own_class(tmp_path: Path) -> None:
    failing = {s.id for s in weighted.run(tmp_path) if not s.holds}
    assert failing == {"weighted-other-classes"}
    assert (tmp_path / "weighted.png").is_file()
