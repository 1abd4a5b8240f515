"""CCA: its optimum at any λ, the λ that makes it CC-DPO's, and what others give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

from mclr.theory.lab.tables_dpo import cca_best_distribution, cca_loss, cca_optimum, powered
from mclr.theory.lab.tabular import random_world, small_world
from mclr.theory.topics import cca


def test_loss_derivatives() -> None:
    world = random_world(1, points=5)
    loss = cca_loss(world, 0, 0.5, np.log(world.mixed(0.3)[0]), 3.0)
    z = np.linspace(-3, 0, 5)
    assert check_grad(lambda v: loss(v)[0], lambda v: loss(v)[1], z) < 1e-7
    for i in range(5):
        step = 1e-6 * np.eye(5)[i]
        numeric = (loss(z + step)[1] - loss(z - step)[1]) / 2e-6
        np.testing.assert_allclose(loss(z)[2][i], numeric, atol=1e-9)


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_optimum_holds_and_wrong_ones_do_not(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(1)
    assert cca.optimum_error(world, beta, 5.0) < 1e-11
    assert cca.ccdpo_error(world, beta) < 1e-11
    monkeypatch.setattr(cca, "powered", lambda w, b, ref, s: powered(w, b, ref, 1 / s))
    assert cca.optimum_error(world, beta, 5.0) > 1
    monkeypatch.setattr(cca, "normalising_strength", lambda w, b, ref: np.ones(3))
    assert cca.ccdpo_error(world, beta) > 0.1


def test_strength_one_is_not_normalised() -> None:
    """(113): what NCE alone gives sums to Z̃(c), not 1."""
    world = random_world(1)
    table = np.exp(cca_optimum(world, 0.5, world.mixed(0.3), 1.0))
    assert (table.sum(axis=1) > 1.5).all()


def test_range_of_the_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(1)
    assert cca.strength_excess(world, 0.1) == 0
    right = cca.normalising_strength
    monkeypatch.setattr(cca, "normalising_strength", lambda w, b, ref: 4 * right(w, b, ref))
    assert cca.strength_excess(world, 0.1) > 0.1


def test_classes_need_different_strengths() -> None:
    assert cca.single_strength_error(random_world(1), 0.5) > 0.1


def test_among_distributions_only_the_right_strength_is_ccdpo() -> None:
    world = small_world()
    assert cca.distribution_distance(world, 0.5, 0, 1.0) < 1e-6
    assert cca.distribution_distance(world, 0.5, 0, 0.5) > 0.01
    assert cca.distribution_distance(world, 0.5, 0, 2.0) > 0.01


def test_large_strengths_collapse_to_a_point() -> None:
    world = small_world()
    reference = world.mixed(0.3)
    found = cca_best_distribution(world, 0, 0.5, reference, 50.0)
    assert found.max() > 0.95
    assert found.sum() == pytest.approx(1, abs=1e-12)
    loss = cca_loss(world, 0, 0.5, np.log(reference[0]), 50.0)
    assert loss(np.log(found))[0] < loss(np.log(reference[0]))[0]


def test_run_states_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cca, "positive_worlds", lambda: [random_world(1)])
    statements = cca.run(tmp_path)
    assert len({statement.id for statement in statements}) == len(statements) == 7
    assert {s.id for s in statements if not s.holds} == {"cca-one-strength"}
    assert (tmp_path / "cca.png").is_file()
