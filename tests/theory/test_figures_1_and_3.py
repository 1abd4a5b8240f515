from pathlib import Path

import numpy as np
import pytest

from mclr.theory.lab.mixtures import Level, branches
from mclr.theory.topics import figure1, figure3

WORLD = branches()


def test_leaky_model_is_the_mixture_error_model() -> None:
    x = WORLD.marginal.sample(20, np.random.default_rng(0))
    own, every = (np.exp(p.log_density(x)) for p in (WORLD.classes[0], WORLD.marginal))
    found = np.exp(figure1.leaky(WORLD, 0.3)[0].log_density(x))
    np.testing.assert_allclose(found, 0.7 * own + 0.3 * every, rtol=1e-9)


def test_same_class_twice_gives_the_same_samples_and_chance_recognition() -> None:
    noise = np.random.default_rng(0).standard_normal((20, 2))
    same = figure1.pairs((WORLD.classes[0], WORLD.classes[0]), noise)
    assert same.distance == 0
    assert same.recognised(WORLD) == pytest.approx(0.5)


def test_flow_samples_lie_on_their_class() -> None:
    noise = np.random.default_rng(0).standard_normal((100, 2))
    found = figure1.pairs(WORLD.classes, noise)
    assert found.recognised(WORLD) > 0.9
    density = WORLD.classes[0].at(Level(0.01)).log_density(found.first)
    typical = WORLD.classes[0].log_density(WORLD.classes[0].sample(500, np.random.default_rng(1)))
    assert density.mean() == pytest.approx(typical.mean(), abs=0.3)


def test_figure_1_shows_separation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure1, "POINTS", 80)
    (statement,) = figure1.run(tmp_path)
    assert statement.holds
    assert statement.deviation > 0.1
    assert (tmp_path / "figure1.png").is_file()


def test_figure_3_is_drawn_and_its_statement_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figure3, "X", np.linspace(-3.5, 4.5, 25))
    (statement,) = figure3.run(tmp_path)
    assert statement.holds
    assert (tmp_path / "figure3.png").is_file()
