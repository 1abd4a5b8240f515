"""The ELBO form: denoisers and scores (Appendix E.1); its other parts have modules of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from mclr.theory.lab.mixtures import Array, Level, Mixture, line
from mclr.theory.lab.score_matching import Grid, grid_1d, relative_error
from mclr.theory.lab.statement import Statement
from mclr.theory.topics import elbo_jensen, elbo_likelihood
from mclr.theory.topics.elbo_figure import draw

SCALED = (Level(0.4, 0.93), Level(1.0, 0.71), Level(2.5, 0.37))
PLAIN = (Level(0.4), Level(1.0), Level(2.5))
OWN = 1


def posterior_mean(grid: Grid, density: Mixture, level: Level, values: Array) -> Array:
    """E[values(x, y) | x_t = y] by quadrature; values (X, Y, d) -> (Y, d)."""
    joint = grid.mass(density).numpy()[:, None] * grid.transition(level).numpy()
    return np.asarray((joint[..., None] * values).sum(0) / joint.sum(0)[:, None])


# Eq. (120)
def lemma_error(grid: Grid, density: Mixture, level: Level) -> float:
    """Relative difference of E[∇ log p_0t | x_t] from ∇ log p_t."""
    mean = posterior_mean(grid, density, level, grid.target(level).numpy())
    return relative_error(mean, density.at(level).score(grid.y))


# Eqs. (144), (145) with the denoiser of x_t / s at noise σ; (147) where s = 1
def tweedie(density: Mixture, y: Array, level: Level) -> Array:
    """(s D(y/s; σ) − y) / (s² σ²): (N, d)."""
    clean = density.denoise(y / level.s, level.sigma)
    return np.asarray((level.s * clean - y) / level.variance)


def tweedie_as_printed(density: Mixture, y: Array, level: Level) -> Array:
    """Eq. (145) as printed: (D(y; s² σ) − y) / (s² σ²)."""
    clean = density.denoise(y, level.s**2 * np.asarray(level.sigma))
    return np.asarray((clean - y) / level.variance)


def form_error(seed: int = 0) -> float:
    """Relative difference of ‖∇ log p_0t − s_θ‖² and ‖x − D_θ‖²/σ⁴ for any D_θ and s = 1."""
    rng = np.random.default_rng(seed)
    x, noise, denoised = rng.standard_normal((3, 1000, 2))
    sigma = np.exp(rng.standard_normal((1000, 1)))
    y = x + sigma * noise
    score = (denoised - y) / sigma**2
    from_score = (((x - y) / sigma**2 - score) ** 2).sum(1)
    from_denoiser = ((x - denoised) ** 2).sum(1) / sigma[:, 0] ** 4
    return float(np.abs(from_score / from_denoiser - 1).max())


def _denoiser_statements() -> list[Statement]:
    world, grid = line(), grid_1d(-3, 3.5, 41)
    own, y = world.classes[OWN], grid.y
    state = partial(Statement, title="Appendix E.1", world=world.name)

    def worst(form: Callable[[Mixture, Array, Level], Array], levels: tuple[Level, ...]) -> float:
        return max(relative_error(form(own, y, level), own.at(level).score(y)) for level in levels)

    return [
        state(
            id="elbo-lemma1",
            title="Lemma 1",
            equations="(120)",
            claim="E[∇ log p_0t(x_t|x) | x_t] by quadrature is ∇ log p_t",
            deviation=max(lemma_error(grid, own, level) for level in PLAIN + SCALED),
            tolerance=1e-9,
            reason="quadrature in float64",
        ),
        state(
            id="elbo-denoiser-form",
            equations="(21), (22), (146), (149)",
            claim="‖∇ log p_0t − s_θ‖² = ‖x − D_θ‖²/σ⁴ for any D_θ, so (22) is (21) with "
            "w = g²/σ⁴ (s = 1)",
            world="1000 random x, ε, σ and D_θ in 2-D",
            deviation=form_error(),
            tolerance=1e-9,
            reason="cancellation in float64",
        ),
        state(
            id="elbo-tweedie",
            equations="(147)",
            claim="(D(x; σ, c) − x)/σ² is ∇ log p_t(x|c); with s ≠ 1 it is "
            "(s D(x_t/s; σ) − x_t)/(s²σ²)",
            deviation=max(worst(tweedie, PLAIN), worst(tweedie, SCALED)),
            tolerance=1e-9,
            reason="float64",
        ),
        state(
            id="elbo-145-printed",
            equations="(145)",
            claim="(145) as printed, with noise level s²σ and without the factor s before D, is "
            "the score where s ≠ 1 (it is at s = 1, which is all the paper uses)",
            deviation=worst(tweedie_as_printed, SCALED),
            tolerance=1e-9,
            reason="float64",
        ),
    ]


def run(figures: Path) -> list[Statement]:
    """Every statement about the ELBO form, and its figure."""
    found, curves = elbo_likelihood.ratios(), elbo_jensen.curve()
    draw(found.x, found.exact, found.elbo, found.trained, curves, figures)
    return [
        *_denoiser_statements(),
        *elbo_likelihood.statements(found),
        *elbo_jensen.statements(curves),
    ]
