from pathlib import Path

import numpy as np
import pytest
import torch

from mclr.theory.lab.mixtures import Level, line, plane
from mclr.theory.lab.score_matching import grid_1d, grid_2d, stationary
from mclr.theory.topics import theorem3
from mclr.theory.topics.theorem3_objectives import adaptive, none, schedules

LINE, GRID = line(), grid_1d(-3, 3.5, 15, step=0.04)


def test_quadrature_weights_are_densities() -> None:
    level = Level(0.5, 0.8)
    for grid, world in ((GRID, LINE), (grid_2d(6, seed=1), plane())):
        mass = grid.mass(world.marginal)
        assert mass.sum().item() == pytest.approx(1, abs=1e-10)
        p_t = (mass[:, None] * grid.transition(level)).sum(0)
        np.testing.assert_allclose(p_t, grid.density(world.marginal, level), rtol=1e-8)


def test_targets_are_slopes_of_the_transition() -> None:
    level, h = Level(0.5, 0.8), 1e-6
    up, down = (
        type(GRID)(GRID.x, GRID.cell, GRID.y + shift).transition(level) for shift in (h, -h)
    )
    here = GRID.transition(level)
    slope = (up - down) / (2 * h)
    near = here > 1e-6
    expected = (here * GRID.target(level)[..., 0])[near]
    np.testing.assert_allclose(slope[near], expected, rtol=1e-4, atol=1e-7)


def test_stationary_point_of_a_known_quadratic() -> None:
    centre = torch.tensor([1.0, -2.0], dtype=torch.float64)
    bend = torch.tensor([3.0, -0.5], dtype=torch.float64)
    found = stationary(lambda table: (bend * (table - centre) ** 2).sum(), (2,))
    np.testing.assert_allclose(found.table, centre)
    np.testing.assert_allclose(found.curvature, 2 * bend)


@pytest.mark.parametrize("eta", [0.5, 3.0])
@pytest.mark.parametrize("number", range(4))
def test_minimiser_of_the_weighted_objective_is_cfg(eta: float, number: int) -> None:
    schedule = schedules(theorem3.VE[:3])[number]
    assert theorem3.deviation(GRID, LINE, schedule, eta) < 1e-10


def test_minimiser_in_the_plane_with_shrinking_signal() -> None:
    schedule = schedules(theorem3.VP)[3]
    assert theorem3.deviation(grid_2d(5, seed=2), plane(), schedule, 1.0) < 1e-9


def test_wrong_weights_and_wrong_scores_are_exposed() -> None:
    schedule = schedules(theorem3.VE[:2])[0]

    def inverse(*where: object) -> torch.Tensor:
        return 1 / adaptive(*where)  # type: ignore[arg-type]

    def slightly_off(*where: object) -> torch.Tensor:
        return 1.001 * adaptive(*where)  # type: ignore[arg-type]

    for wrong in (inverse, slightly_off, none):
        assert theorem3.deviation(GRID, LINE, schedule, 1.0, wrong) > 1e3 * theorem3.UNIQUE
    right = theorem3.minimiser(GRID, LINE, schedule, 1.0).table[0]
    flipped = theorem3.claimed(GRID, LINE, schedule.levels[0], -1.0)
    assert np.abs(right - flipped).max() > 0.1


def test_form_24_needs_the_negatives_own_sample() -> None:
    assert theorem3.second_form_deviation(GRID, LINE, 1.0, as_printed=False) < 1e-10
    assert theorem3.second_form_deviation(GRID, LINE, 1.0, as_printed=True) > 0.1


def test_without_the_weight_the_minimiser_is_the_score_of_h_where_there_is_one() -> None:
    schedule = schedules(theorem3.VE[:2])[0]
    worst, wrong, below = theorem3.unweighted(GRID, LINE, schedule, 1.0)
    assert worst < 1e-8
    assert wrong == 0
    assert 0.05 < below < 0.6
    # and it is not CFG
    found = theorem3.minimiser(GRID, LINE, schedule, 1.0, none)
    cfg = theorem3.claimed(GRID, LINE, schedule.levels[0], 1.0)
    assert np.abs(found.table[0] - cfg)[found.curvature[0] > 0].max() > 0.1


def test_statements_hold_but_for_the_slip_in_form_24(tmp_path: Path) -> None:
    statements = theorem3.run(tmp_path)
    assert [s.id for s in statements if not s.holds] == ["theorem3-form-24-printed"]
    assert {p.name for p in tmp_path.iterdir()} == {"theorem3.pdf", "theorem3.png"}
