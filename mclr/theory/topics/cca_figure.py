"""The figure of CCA: what λ does to its optimum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.tables_dpo import (
    cca_best_distribution,
    cca_optimum,
    normalising_strength,
    powered,
)
from mclr.theory.lab.tabular import LEAK, small_world, total_variation

BETA = 0.5


def draw(folder: Path) -> None:
    """Left: sums of the unrestricted optima. Middle, right: optima among distributions."""
    world = small_world()
    reference = world.mixed(LEAK)
    right_strength = normalising_strength(world, BETA, reference)
    closed = np.exp(log_softmax(powered(world, BETA, reference), axis=1))
    strengths = np.logspace(-1, 1.7, 28)
    sums = np.array([np.exp(cca_optimum(world, BETA, reference, s)).sum(axis=1) for s in strengths])
    with style():
        figure, (left, middle, right) = panels(3, width=3.6)
        for c, colour in enumerate(PALETTE[:3]):
            left.plot(strengths, sums[:, c], color=colour, label=f"class {c + 1}")
            left.axvline(right_strength[c], color=colour, linestyle=":")
            found = [cca_best_distribution(world, c, BETA, reference, s) for s in strengths]
            away = total_variation(np.array(found), closed[c])
            middle.plot(strengths, away, ".-", color=colour, label=f"class {c + 1}")
            middle.axvline(right_strength[c], color=colour, linestyle=":")
        left.axhline(1, color=COLOURS["base"], linewidth=1)
        left.set(xscale="log", yscale="log", xlabel="λ; dotted: λ(c)", ylabel="Σ p_θ(x|c)")
        left.set_title("Tables of any sum")
        left.legend(fontsize=7)
        middle.set(xscale="log", xlabel="λ; dotted: λ(c)", ylabel="TV to CC-DPO's optimum")
        middle.set_title("Distributions")
        middle.legend(fontsize=7)
        x = np.arange(len(closed[0]))
        right.plot(x, closed[0], "_", color=COLOURS["ccdpo"], label="CC-DPO", markersize=14)
        looks = ((0.1, "v"), (right_strength[0], "s"), (10.0, "^"))
        for (strength, marker), colour in zip(looks, PALETTE, strict=False):
            found_0 = cca_best_distribution(world, 0, BETA, reference, strength)
            right.plot(x, found_0, marker, color=colour, label=f"CCA, λ = {strength:.3g}")
        right.set(xlabel="point x", ylabel="p_θ(x|1)", title="Class 1")
        right.legend(fontsize=7)
        save(figure, folder, "cca")
