"""Worlds of tables and the optimisers: closed forms of small problems."""

from __future__ import annotations

import numpy as np
import pytest

from mclr.theory.lab.optimise import maximise_on_simplex, minimise
from mclr.theory.lab.tables_mclr import coefficients, form_11, h, independent, other_classes
from mclr.theory.lab.tabular import (
    World,
    divergence,
    holed_world,
    line_world,
    positive_worlds,
    proof_worlds,
    random_world,
    small_world,
    total_variation,
)


@pytest.mark.parametrize("world", [*proof_worlds(), *positive_worlds(), line_world()])
def test_worlds_are_distributions(world: World) -> None:
    assert world.prior.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(world.conditional.sum(axis=1), 1, atol=1e-15)
    assert world.marginal.sum() == pytest.approx(1, abs=1e-15)
    assert world.conditional[:, ~world.inside].sum() == 0


def test_worlds_are_what_they_say() -> None:
    assert all((world.conditional > 0).all() for world in positive_worlds())
    assert (random_world(4, zeros=True).conditional == 0).any()
    assert small_world().conditional.shape == (3, 6)
    holed = holed_world()
    assert ((holed.marginal == 0) & holed.inside).any()
    assert not holed.inside.all()


def test_a_seed_gives_one_world() -> None:
    np.testing.assert_array_equal(random_world(1).conditional, random_world(1).conditional)
    assert not np.array_equal(random_world(1).conditional, random_world(2).conditional)


def test_mixed_runs_from_the_conditional_to_the_marginal() -> None:
    world = random_world(1)
    np.testing.assert_array_equal(world.mixed(0), world.conditional)
    np.testing.assert_allclose(world.mixed(1), np.tile(world.marginal, (3, 1)))
    np.testing.assert_allclose(world.prior @ world.mixed(0.4), world.marginal, atol=1e-15)


def test_floor_is_only_on_the_compact_set() -> None:
    world = holed_world()
    np.testing.assert_array_equal(world.floor(0.01), np.where(world.inside, 0.01, 0.0))


def test_distances() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert total_variation(p, q) == 0.5
    assert divergence(p, q) == pytest.approx(np.log(2))
    assert divergence(q, p) == np.inf


def test_partners() -> None:
    prior = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(independent(prior), [prior] * 3)
    expected = [[0, 0.6, 0.4], [5 / 7, 0, 2 / 7], [0.625, 0.375, 0]]
    np.testing.assert_allclose(other_classes(prior), expected)


def test_trades_find_the_share_of_each_weight() -> None:
    weights = [0.2, 0.5, 0.3]
    found = maximise_on_simplex(
        lambda i, p: weights[i] / p, np.full(3, 1e-9), np.array([0.9, 0.05, 0.05])
    )
    np.testing.assert_allclose(found, weights, atol=1e-15)


def test_trades_leave_no_more_than_the_floor_where_it_does_not_pay() -> None:
    weights = [1.5, -0.5, 0.0]
    found = maximise_on_simplex(
        lambda i, p: weights[i] / p if weights[i] else 0.0,
        np.array([0.1, 0.1, 0.0]),
        np.full(3, 1 / 3),
    )
    np.testing.assert_allclose(found, [0.9, 0.1, 0.0], atol=1e-15)


def test_newton_solves_a_badly_scaled_quadratic_with_a_flat_direction() -> None:
    bend = np.diag([1.0, 1e-8, 0.0])
    target = np.array([3.0, -2.0, 0.0])
    found = minimise(
        lambda z: (float((z - target) @ bend @ (z - target) / 2), bend @ (z - target), bend),
        np.array([0.0, 0.0, 7.0]),
    )
    np.testing.assert_allclose(found, [3.0, -2.0, 7.0], atol=1e-13)


def test_coefficients_are_read_off_the_objective() -> None:
    world = random_world(1)
    found = coefficients(lambda log_p: 5.0 + form_11(world, log_p, 2.0), (3, 10))
    np.testing.assert_allclose(found, world.prior[:, None] * h(world, 2.0), atol=1e-15)
