"""Corollary 1: recovery from a leaking base, and what a wrong η does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mclr.theory.lab.tables_mclr import form_13
from mclr.theory.lab.tabular import World, divergence, holed_world, random_world, total_variation
from mclr.theory.topics import corollary1

WORLDS = [random_world(1), random_world(4, zeros=True), holed_world()]


def test_objective_is_minus_the_divergence_without_regularizer() -> None:
    world = random_world(1)
    p = world.mixed(0.8)
    expected = -world.prior @ divergence(world.mixed(0.3), p)
    assert form_13(world, np.log(p), 0.0, world.mixed(0.3)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
@pytest.mark.parametrize("leak", [0.2, 1.0])
def test_recovers_at_the_right_strength_only(world: World, leak: float) -> None:
    assert corollary1.recovery_error(world, leak) < corollary1.TOLERANCE
    assert corollary1.recovery_error(world, leak, 0.9 * leak) > 1e-3
    assert corollary1.recovery_error(world, leak, -leak) > 1e-2


def test_a_wrong_strength_leaves_or_exceeds_in_proportion() -> None:
    world = random_world(1)
    assert corollary1.remaining_leak_error(world, 0.5, 0.2) < corollary1.TOLERANCE
    assert corollary1.excess_error(world, 0.5, 2.0) < corollary1.TOLERANCE
    away = total_variation(corollary1.recovered(world, 0.5, 0.2), world.conditional)
    full = total_variation(np.tile(world.marginal, (3, 1)), world.conditional)
    np.testing.assert_allclose(away, 0.3 * full, atol=1e-11)


def test_run_states_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corollary1, "proof_worlds", lambda: WORLDS[:1])
    statements = corollary1.run(tmp_path)
    assert len({statement.id for statement in statements}) == len(statements) == 3
    assert all(statement.holds for statement in statements)
    assert (tmp_path / "corollary1.png").is_file()
