"""The figure of Theorem 2: its optimum, and a lone point under CC-DPO and under MCLR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy.special import log_softmax

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.lone_point import lone_world, share_ccdpo, share_mclr
from mclr.theory.lab.tables_dpo import ccdpo_optimum, powered
from mclr.theory.lab.tabular import LEAK, World, line_world

BETAS = (2.0, 0.5, 0.1)
RARITIES = np.logspace(-0.301, -8, 13)
SHARES = np.logspace(-1.301, -8, 10)
STRENGTHS = np.logspace(0, 2, 13)


def draw(folder: Path) -> None:
    """Four panels, written as theorem2."""
    with style():
        figure, (optimum, rare, kept, strong) = panels(2, 2)
        _draw_optimum(optimum)
        rarer = [lone_world(rarity) for rarity in RARITIES]
        _draw_shares(rare, [float(world.marginal[0]) for world in rarer], rarer)
        rare.axhline(0.05, color=COLOURS["truth"], linewidth=1, label="p(x̃|c)")
        rare.set(title="Class c gets rare", xlabel="p(x̃)", ylabel="p_θ(x̃|c)")
        smaller = [lone_world(0.5, share) for share in SHARES]
        _draw_shares(kept, [float(world.marginal[0]) for world in smaller], smaller)
        kept.plot(SHARES / 2, SHARES, color=COLOURS["truth"], linewidth=1, label="p(x̃|c)")
        kept.set(title="Class c keeps prior 1/2", xlabel="p(x̃)", ylabel="p_θ(x̃|c)", yscale="log")
        _draw_strengths(strong, lone_world(0.5))
        for axes in (rare, kept, strong):
            axes.set_xscale("log")
            axes.legend(fontsize=7)
        save(figure, folder, "theorem2")


def _draw_optimum(axes: Axes) -> None:
    world, c = line_world(), 1
    reference = world.mixed(LEAK)
    x = np.arange(len(world.marginal))
    axes.plot(x, reference[c], "--", color=COLOURS["base"], label="base model")
    for beta, colour in zip(BETAS, PALETTE, strict=False):
        found = np.exp(ccdpo_optimum(world, beta, reference))[c]
        closed = np.exp(log_softmax(powered(world, beta, reference), axis=1))[c]
        axes.plot(x, closed, color=colour, label=f"(20), β = {beta:g}")
        axes.plot(x, found, ".", color=colour)
    axes.set(xlabel="point x", ylabel="probability", title="Optimum of (19): dots")
    axes.legend(fontsize=7, loc="upper left")


def _draw_shares(axes: Axes, x: list[float], worlds: list[World]) -> None:
    """Share of x̃ under both methods at middling strength."""
    dpo = [share_ccdpo(world, 0.5) for world in worlds]
    mclr = [share_mclr(world, 1.0) for world in worlds]
    axes.plot(x, dpo, "D-", color=COLOURS["ccdpo"], label="CC-DPO, β = 0.5")
    axes.plot(x, mclr, "P-", color=COLOURS["mclr"], label="MCLR, η = 1")


def _draw_strengths(axes: Axes, world: World) -> None:
    """Share of x̃ under both methods, in one world, against their strength."""
    dpo = [share_ccdpo(world, 1 / strength) for strength in STRENGTHS]
    mclr = [share_mclr(world, strength) for strength in STRENGTHS]
    axes.plot(STRENGTHS, dpo, "D-", color=COLOURS["ccdpo"], label="CC-DPO against 1/β")
    axes.plot(STRENGTHS, mclr, "P-", color=COLOURS["mclr"], label="MCLR against η")
    axes.axhline(0.05, color=COLOURS["truth"], linewidth=1, label="p(x̃|c)")
    axes.set(title="Strength grows, priors 1/2", xlabel="1/β or η", ylabel="p_θ(x̃|c)")
