"""Theorem 2 and the remark after it: the checks pass for the theorem and fail for wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

from mclr.theory.lab.lone_point import excess_mclr, lone_world, share_ccdpo, share_mclr
from mclr.theory.lab.tables_dpo import pair_loss, powered
from mclr.theory.lab.tables_mclr import independent
from mclr.theory.lab.tabular import World, random_world
from mclr.theory.topics import theorem2

FAILING = {"theorem2-words", "theorem2-fixed-prior"}


def test_pair_loss_by_hand() -> None:
    """Two points, one pair of classes: every pair (x_w, x_l) written out."""
    conditional = np.array([[0.8, 0.2], [0.4, 0.6]])
    world = World("two points", np.array([0.5, 0.5]), conditional, np.ones(2, dtype=bool))
    log_ref, log_p = np.log([0.5, 0.5]), np.log([0.7, 0.3])
    value = pair_loss(world, 0, 2.0, log_ref, independent(world.prior))(log_p)[0]
    margin = 2.0 * (np.log(0.7 / 0.5) - np.log(0.3 / 0.5))
    won, lost, same = 0.8 * 0.4, 0.2 * 0.6, 0.8 * 0.6 + 0.2 * 0.4
    expected = won * np.log1p(np.exp(-margin)) + lost * np.log1p(np.exp(margin))
    assert value == pytest.approx(expected + same * np.log(2), abs=1e-15)


def test_pair_loss_derivatives() -> None:
    world = random_world(1, points=5)
    loss = pair_loss(world, 0, 0.5, np.log(world.mixed(0.3)[0]), independent(world.prior))
    z = np.linspace(-3, 0, 5)
    assert check_grad(lambda v: loss(v)[0], lambda v: loss(v)[1], z) < 1e-7
    for i in range(5):
        step = 1e-6 * np.eye(5)[i]
        numeric = (loss(z + step)[1] - loss(z - step)[1]) / 2e-6
        np.testing.assert_allclose(loss(z)[2][i], numeric, atol=1e-9)


@pytest.mark.parametrize("beta", [2.0, 0.5, 0.02])
def test_theorem_holds_and_wrong_ones_do_not(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(1)
    assert theorem2.optimum_error(world, beta) < 1e-11
    assert theorem2.reward_error(world, beta) < 1e-10
    monkeypatch.setattr(theorem2, "powered", lambda w, b, ref: powered(w, 1 / b, ref))
    assert theorem2.optimum_error(world, beta) > 0.1
    monkeypatch.setattr(theorem2, "powered", lambda w, b, ref: powered(w, b, np.ones_like(ref)))
    assert theorem2.optimum_error(world, beta) > 0.1


def test_drawing_from_other_classes_replaces_the_marginal() -> None:
    away, replaced = theorem2.other_class_errors(random_world(1), 1.0)
    assert replaced < 1e-11
    assert away > 0.1


class Thinned(World):
    """A world whose p(x) forgets half of what its classes put there."""

    @property
    def marginal(self) -> np.ndarray:
        return super().marginal / 2


def test_ratio_bound_is_reached_and_an_excess_would_show() -> None:
    world = lone_world(0.01)
    assert theorem2.ratio_excess(world) < 1e-12
    ratio = world.prior[0] * world.conditional[0] / world.marginal
    assert ratio.max() == pytest.approx(1, abs=1e-15)
    thinned = Thinned("thinned", world.prior, world.conditional, world.inside)
    assert theorem2.ratio_excess(thinned) == pytest.approx(1, abs=1e-12)


def test_a_rare_class_runs_away_under_ccdpo_but_not_under_mclr() -> None:
    shares = [share_ccdpo(lone_world(rarity), 0.5) for rarity in (0.5, 1e-2, 1e-4)]
    assert shares[0] < 0.15 < 0.98 < shares[1] < shares[2]
    assert share_mclr(lone_world(1e-4), 0.3) == pytest.approx(0.05, abs=1e-6)
    assert excess_mclr(lone_world(1e-4), 1.0) == 0


def test_with_fixed_priors_the_share_vanishes_with_the_point() -> None:
    """At x̃ the ratio is 1/p(c) whatever p(x̃): the amplification is a constant."""
    large, small = (share_ccdpo(lone_world(0.5, share), 0.5) for share in (1e-4, 1e-6))
    assert large / small == pytest.approx(100, rel=1e-3)


def test_run_states_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorem2, "positive_worlds", lambda: [random_world(1)])
    monkeypatch.setattr(theorem2, "proof_worlds", lambda: [random_world(1)])
    statements = theorem2.run(tmp_path)
    assert len({statement.id for statement in statements}) == len(statements) == 10
    assert {statement.id for statement in statements if not statement.holds} == FAILING
    assert (tmp_path / "theorem2.png").is_file()
