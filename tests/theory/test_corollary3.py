import numpy as np
import pytest
import torch

from mclr.theory.lab.mixtures import Level, line
from mclr.theory.lab.score_matching import grid_1d
from mclr.theory.topics import corollary3, figure3

GRID = grid_1d(-3, 3.5, 15, step=0.04)
CASES = corollary3.cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("level", [Level(0.4), Level(1.5, 0.6)])
def test_minimiser_is_the_guided_score(case: corollary3.Case, level: Level) -> None:
    for eta in corollary3.ETAS:
        assert corollary3.deviation(GRID, case, level, eta) < 1e-10


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_another_weight_is_exposed(case: corollary3.Case) -> None:
    level = Level(0.6)
    right = corollary3.adaptive(GRID, case, level)
    for wrong in (1 / right, torch.ones_like(right), 1.001 * right):
        assert corollary3.deviation(GRID, case, level, 1.0, wrong) > 1e-6


def test_tilted_mixture_is_proportional_to_the_exponential_of_the_reward() -> None:
    base, a = line().marginal, np.array([0.7])
    x = np.linspace(-3, 3, 9)[:, None]
    excess = corollary3.tilt(base, a).log_density(x) - base.log_density(x) - x @ a
    np.testing.assert_allclose(excess, excess[0], atol=1e-10)


def test_weak_model_is_a_density_broader_than_the_strong_one() -> None:
    autoguidance = CASES[1]
    assert autoguidance.negative.weights.sum() == pytest.approx(1)
    tail = np.array([[-2.5], [4.0]])
    strong, weak = autoguidance.positive, autoguidance.negative
    assert (weak.log_density(tail) > strong.log_density(tail)).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_likelihood_form_has_the_floored_h_as_optimum(case: corollary3.Case) -> None:
    assert corollary3.likelihood_deviation(case, 1.0) < 1e-12
    x = np.linspace(-3, 4, 21)
    found = corollary3.likelihood_optimum(case, x, 1.0)
    assert found.sum() == pytest.approx(1)
    assert np.abs(found - corollary3.likelihood_claim(case, x, 1.1)).max() > 1e-4


def test_contrast_and_guidance_move_mass_to_where_the_positive_is_larger() -> None:
    contrast, guided = figure3.gains(CASES[1])
    assert contrast > 0.005
    assert guided > 0.005
