"""Corollary 2: the base model that CC-DPO corrects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mclr.theory.lab.tabular import random_world
from mclr.theory.topics import corollary2


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.25])
def test_recovers_from_its_own_base_only(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(1)
    assert corollary2.recovery_error(world, beta) < 1e-11
    right = corollary2.mistaken
    monkeypatch.setattr(corollary2, "mistaken", lambda w, b: right(w, b + 0.1))
    assert corollary2.recovery_error(world, beta) > 1e-2


def test_base_by_hand() -> None:
    world = random_world(1)
    np.testing.assert_allclose(np.exp(corollary2.mistaken(world, 1.0)), world.mixed(1), atol=1e-15)
    halfway = np.sqrt(world.conditional * world.marginal)
    expected = halfway / halfway.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(corollary2.mistaken(world, 2.0)), expected, atol=1e-15)


def test_what_the_base_knows_changes_sign_at_one() -> None:
    world = random_world(1)
    assert (corollary2.informed(world, 2.0) > 0).all()
    np.testing.assert_allclose(corollary2.informed(world, 1.0), 0, atol=1e-15)
    assert (corollary2.informed(world, 0.5) < 0).all()


def test_an_empty_point_takes_the_base_for_small_beta_only() -> None:
    assert corollary2.share_where_empty(1e-12, 0.5) > 0.99
    assert corollary2.share_where_empty(1e-12, 2.0) < 1e-5


def test_run_states_everything(tmp_path: Path) -> None:
    statements = corollary2.run(tmp_path)
    assert len({statement.id for statement in statements}) == len(statements) == 4
    assert all(statement.holds for statement in statements)
    assert (tmp_path / "corollary2.png").is_file()
