"""How near fine-tuned networks come to CFG, and what they sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array, Level, World, guided_score
from mclr.theory.topics.guidance import flow

Field = Callable[[Array, float], Array]
"""Score of the first class: (points (N, 2), σ) -> (N, 2)."""
POINTS, STEPS, TOP, BOTTOM = 1200, 50, 20.0, 0.02


def samples(field: Field, noise: Array) -> Array:
    """What the probability-flow ODE makes of unit noise (N, 2)."""

    def velocity(x: Array, sigma: float) -> Array:
        return -(sigma**2) * field(x, float(sigma))

    return flow(velocity, TOP * noise, STEPS, TOP, BOTTOM)


def exact_field(world: World, gamma: float) -> Field:
    """The exact guided score of the first class."""

    def field(x: Array, sigma: float) -> Array:
        own, every = (p.at(Level(sigma)) for p in (world.classes[0], world.marginal))
        return guided_score(own, every, x, gamma)

    return field


def draw(
    world: World,
    steps: tuple[int, ...],
    paths: Mapping[str, list[Array]],
    fields: Mapping[str, Field],
    folder: Path,
) -> None:
    """First panel: distance from CFG by step, a line per seed. Others: samples of one class.

    paths: recipe -> distances (len(steps),) for each seed. fields: name -> learned field.
    """
    noise = np.random.default_rng(0).standard_normal((POINTS, 2))
    shown = {"exact score": exact_field(world, 0.0), "exact CFG, γ = 1": exact_field(world, 1.0)}
    with style():
        figure, axes = panels(3, 2, width=3.5, height=2.7)
        for (recipe, seeds), colour in zip(
            paths.items(), PALETTE[1::-1] + PALETTE[2:], strict=False
        ):
            for k, path in enumerate(seeds):
                axes[0].plot(
                    steps, path, "o-", ms=3, color=colour, label=recipe if k == 0 else None
                )
        axes[0].axhline(1, color=COLOURS["marginal"], ls="--", lw=1, label="conditional score")
        axes[0].set(
            yscale="log", ylim=(0.15, 60), xlabel="fine-tuning steps", ylabel="distance from CFG"
        )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        for axis, (name, field) in zip(axes[1:], (shown | dict(fields)).items(), strict=False):
            points = samples(partial(field), noise)
            other = world.classes[1].sample(POINTS, np.random.default_rng(1))
            axis.plot(*other.T, ",", color="0.75")
            axis.plot(*points.T, ".", ms=1.5, color=PALETTE[0])
            axis.set(title=name, xlim=(-2.2, 2.2), ylim=(-1.6, 1.6), aspect="equal")
        figure.suptitle(
            "Left: learned field to CFG. Others: samples of one class; grey: the other class",
            fontsize=10,
        )
        save(figure, folder, "mixture_denoiser")
