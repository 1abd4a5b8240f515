"""Distillation, GFT and MG have classifier-free guidance as their optimum, on exact worlds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mclr.theory.lab.mixtures import Level
from mclr.theory.lab.score_matching import relative_error
from mclr.theory.lab.tabular import positive_worlds, total_variation
from mclr.theory.topics import imitation as topic


def test_every_statement_holds(tmp_path: Path) -> None:
    statements = topic.run(tmp_path)
    assert len({s.id for s in statements}) == len(statements) == 8
    assert [s.id for s in statements if not s.holds] == []


@pytest.mark.parametrize("name", topic.GRIDS)
@pytest.mark.parametrize("method", topic.METHODS)
def test_another_strength_is_not_the_optimum(name: str, method: str) -> None:
    """At γ neither the exact model, nor CFG at w or 1/β in the place of γ, is at rest."""
    world, grid = topic.GRIDS[name]()
    found, curvature = topic.denoiser_at_rest(method, name, 1.0, 0.4)
    assert (curvature > 0).all()
    for gamma in (0.0, 0.5, 2.0):
        other = topic.guided_denoiser(world, grid, Level(0.4), gamma)
        assert relative_error(found, other) > 1e-2


@pytest.mark.parametrize("method", topic.METHODS)
@pytest.mark.parametrize("ramp", topic.RAMPS)
def test_tokens_come_to_rest_there_from_the_exact_model(method: str, ramp: float) -> None:
    """Down the slope alone, and not at any other strength."""
    for world in positive_worlds()[:2]:
        optimum = topic.guided_logits(world, ramp * 3.0)
        logits = topic.guided_logits(world, 0.0)
        start = float(total_variation(logits.softmax(0).numpy(), optimum.softmax(0).numpy()))
        for _ in range(3000):
            logits = logits - 2 * topic.token_slope(method, world, 3.0, ramp, logits)
        apart = float(total_variation(logits.softmax(0).numpy(), optimum.softmax(0).numpy()))
        assert apart < 1e-2 * start
        wrong = topic.guided_logits(world, 1.1 * ramp * 3.0)
        assert topic.token_slope(method, world, 3.0, ramp, wrong).abs().max() > 1e-4


def test_the_dial_is_told_apart_by_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all β had one network, no table would be at rest for each of them."""
    usual = topic.said(torch.zeros(2, 1, dtype=torch.float64), 0.4).unguided
    assert topic.dial_error("line", 0.4) < 1e-9
    kind = type(usual.__self__)  # type: ignore[attr-defined]
    plain = kind.unguided

    def same(self: object, null: object, gamma: torch.Tensor) -> object:
        return plain(self, null, gamma.mean().expand_as(gamma))

    monkeypatch.setattr(kind, "unguided", same)
    assert topic.dial_error("line", 0.4) > 1e-2
