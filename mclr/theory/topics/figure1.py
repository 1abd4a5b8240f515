"""Figure 1: same noise, two labels, before and after MCLR.

The base model leaks between classes as in Eq. (18); Corollary 1 says what MCLR makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array, Level, Mixture, World, branches, mix
from mclr.theory.lab.statement import Statement
from mclr.theory.topics.guidance import flow, guided_velocity

ETA, POINTS, STEPS = 0.7, 400, 60
TOP, BOTTOM = 40.0, 5e-3


@dataclass(frozen=True, eq=False)
class Pairs:
    """Samples of the two classes from the same noises, each (N, 2)."""

    first: Array
    second: Array

    @property
    def distance(self) -> float:
        """Mean distance between the two samples of a noise."""
        return float(np.linalg.norm(self.first - self.second, axis=1).mean())

    def recognised(self, world: World) -> float:
        """Share of samples that are likelier under their own class than under the other."""
        found = [
            world.log_likelihoods(x, Level(0.0)).argmax(-1) == c
            for c, x in enumerate((self.first, self.second))
        ]
        return float(np.mean(found))


# Eq. (18)
def leaky(world: World, eta: float) -> tuple[Mixture, ...]:
    """p_ref(x|c) = (1 − η) p(x|c) + η p(x) of every class."""
    shares = np.array([1 - eta, eta])
    return tuple(mix(shares, (part, world.marginal)) for part in world.classes)


def pairs(classes: tuple[Mixture, ...], noise: Array) -> Pairs:
    """What the probability-flow ODE of two classes makes of unit noise (N, 2)."""
    ends = []
    for part in classes:
        velocity = partial(guided_velocity, part, part, 0.0)
        ends.append(flow(velocity, TOP * noise, STEPS, TOP, BOTTOM))
    return Pairs(*ends)


def run(figures: Path) -> list[Statement]:
    """The figure's message as a statement, and the figure."""
    world = branches()
    noise = np.random.default_rng(8).standard_normal((POINTS, 2))
    before, after = pairs(leaky(world, ETA), noise), pairs(world.classes, noise)
    draw(world, before, after, figures)
    return [
        Statement(
            id="figure1-separation",
            title="Figure 1",
            equations="(13), (18)",
            claim="From the same noise, samples of two classes lie nearer each other under the "
            f"leaky base model ({before.distance:.2f} apart; {100 * before.recognised(world):.0f} "
            f"% recognised) than under MCLR's optimum ({after.distance:.2f}; "
            f"{100 * after.recognised(world):.0f} %): ratio of mean distances",
            world=f"{world.name}; leakage η = {ETA}, {POINTS} noises, exact scores",
            deviation=before.distance / after.distance,
            tolerance=0.9,
            reason="measured: a difference of a tenth is far above the error of 400 noises",
            figure="figure1",
        )
    ]


def draw(world: World, before: Pairs, after: Pairs, folder: Path) -> None:
    """The two samples of a noise are joined by a line."""
    titles = ("(a) base model, leaky", "(b) after MCLR")
    with style():
        figure, axes = panels(2, width=4.2, height=3.6)
        for axis, title, shown in zip(axes, titles, (before, after), strict=True):
            for a, b in zip(shown.first[:60], shown.second[:60], strict=True):
                axis.plot(*np.stack([a, b]).T, "-", color="0.8", lw=0.6, zorder=1)
            for x, colour, name in zip(
                (shown.first, shown.second), PALETTE, ("class 1", "class 2"), strict=False
            ):
                axis.plot(*x.T, ".", ms=3, color=colour, label=name, zorder=2)
            words = f"{shown.distance:.2f} apart, {100 * shown.recognised(world):.0f} % recognised"
            axis.set(title=title, xlim=(-2.2, 2.2), ylim=(-1.6, 1.6), aspect="equal")
            axis.text(0.02, 0.02, words, transform=axis.transAxes, color=COLOURS["truth"])
        axes[0].plot([], [], "-", color="0.8", label="same noise")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        save(figure, folder, "figure1")
