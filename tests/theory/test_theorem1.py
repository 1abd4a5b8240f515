"""Theorem 1: the checks pass for the theorem and fail for wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mclr.theory.lab.tables_mclr import floored, form_10, form_11, form_12, h, optimum, truncated
from mclr.theory.lab.tabular import World, holed_world, random_world
from mclr.theory.topics import theorem1

WORLDS = [random_world(1), random_world(4, zeros=True), holed_world()]


def two_points() -> World:
    conditional = np.array([[0.8, 0.2], [0.4, 0.6]])
    return World("two points", np.array([0.5, 0.5]), conditional, np.ones(2, dtype=bool))


def test_objective_by_hand() -> None:
    """E log p_θ = ½(log ½) + ½(…), and the regularizer, written out for two points."""
    world, log_p = two_points(), np.log(np.array([[0.7, 0.3], [0.4, 0.6]]))
    likelihood = 0.5 * (0.8 * log_p[0, 0] + 0.2 * log_p[0, 1])
    likelihood += 0.5 * (0.4 * log_p[1, 0] + 0.6 * log_p[1, 1])
    first, second = log_p[0] - log_p[1], log_p[1] - log_p[0]
    contrast = 0.25 * (0.8 * first[0] + 0.2 * first[1] + 0.4 * second[0] + 0.6 * second[1])
    for form in (form_10, form_11, form_12):
        assert form(world, log_p, 3.0) == pytest.approx(likelihood + 3 * contrast, abs=1e-15)


def test_optimum_by_hand() -> None:
    """p(x) = (0.6, 0.4): h at η = 1 is (1, 0) for class 1 and (0.2, 0.8) for class 2."""
    world = two_points()
    np.testing.assert_allclose(h(world, 1.0), [[1.0, 0.0], [0.2, 0.8]], atol=1e-15)
    found = optimum(world, 1.0, world.floor(0.25))
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.25, 0.75]], atol=1e-15)


def test_floored_sums_to_one_and_truncated_is_its_limit() -> None:
    h_c = np.array([0.9, 0.4, -0.3, 0.0])
    np.testing.assert_allclose(floored(h_c, np.full(4, 0.01)).sum(), 1, atol=1e-14)
    np.testing.assert_allclose(floored(h_c, np.full(4, 1e-12)), truncated(h_c), atol=1e-11)
    np.testing.assert_allclose(truncated(h_c), [9 / 13, 4 / 13, 0, 0], atol=1e-15)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_theorem_holds_and_wrong_ones_do_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert theorem1.optimum_error(world, 1.0, 1e-3) < 1e-12
    assert theorem1.advantage(world, 1.0, 1e-3) < 1e-12
    assert theorem1.limit_error(world, 1.0, 1e-7) < 1e-6

    def flipped(world: World, eta: float) -> np.ndarray:
        return h(world, -eta)

    monkeypatch.setattr(theorem1, "h", flipped)
    assert theorem1.optimum_error(world, 1.0, 1e-3) > 1e-2
    assert theorem1.advantage(world, 1.0, 1e-3) > 1e-3
    assert theorem1.limit_error(world, 1.0, 1e-7) > 1


def test_a_floor_that_is_added_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """δ + (1 − |K| δ) h⁺/∫h⁺ would also sum to 1 and stay above δ."""

    def added(h_c: np.ndarray, floor: np.ndarray) -> np.ndarray:
        return floor + (1 - floor.sum()) * truncated(h_c)

    monkeypatch.setattr(theorem1, "floored", added)
    assert theorem1.optimum_error(random_world(1), 1.0, 1e-3) > 1e-4
    assert theorem1.advantage(random_world(1), 1.0, 1e-3) > 1e-6


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_forms_are_equal_and_a_wrong_factor_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(theorem1.form_errors(world, 3.0)) < 1e-12
    monkeypatch.setattr(theorem1, "form_10", lambda w, t, eta: form_10(w, t, 2 * eta))
    monkeypatch.setattr(theorem1, "form_12", lambda w, t, eta: form_12(w, t, -eta))
    assert min(theorem1.form_errors(world, 3.0)) > 0.1


def test_other_classes_change_only_the_strength() -> None:
    assert theorem1.other_class_error(random_world(2), 1.0, 1e-4) < 1e-12


def test_run_states_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorem1, "proof_worlds", lambda: WORLDS[:1])
    statements = theorem1.run(tmp_path)
    assert len({statement.id for statement in statements}) == len(statements) == 6
    assert all(statement.holds for statement in statements)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theorem1.pdf", "theorem1.png"]
