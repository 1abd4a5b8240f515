"""The minimisers of the weighted and the unweighted objective beside the scores they are near."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array, Level, World, guided_score
from mclr.theory.lab.score_matching import Stationary

CLASS = 1


def draw(
    world: World,
    levels: tuple[Level, ...],
    y: Array,
    eta: float,
    weighted: Stationary,
    unweighted: Stationary,
    folder: Path,
) -> None:
    """One panel per noise level, class 2 of a 1-D world; y is (Y, 1), tables are (T, C, Y, 1)."""
    x = np.linspace(y.min(), y.max(), 400)[:, None]
    with style():
        figure, axes = panels(len(levels), width=3.4)
        for t, (axis, level) in enumerate(zip(axes, levels, strict=True)):
            own, every = world.classes[CLASS].at(level), world.marginal.at(level)
            cfg = guided_score(own, every, x, eta)[:, 0]
            unbounded = unweighted.curvature[t, CLASS, :, 0] < 0
            free = np.where(unbounded, np.nan, unweighted.table[t, CLASS, :, 0])
            edge = np.abs(cfg).max() * 1.35
            axis.fill_between(
                y[:, 0], -edge, edge, where=unbounded, step="mid", color="0.9", lw=0,
                label="no minimum without the weight",
            )  # fmt: skip
            axis.plot(x, own.score(x), "--", color=COLOURS["marginal"], label="∇ log p_t(x|c)")
            axis.plot(x, cfg, color=COLOURS["truth"], label="CFG score")
            axis.plot(
                y[::2, 0], weighted.table[t, CLASS, ::2, 0], "o", ms=4, color=PALETTE[0],
                label="minimiser of (23), weighted",
            )  # fmt: skip
            axis.plot(y[:, 0], free, "x", ms=4, color=PALETTE[1], label="minimiser of (21)")
            axis.set(ylim=(-edge, edge), xlabel="x_t", title=f"σ = {float(level.sigma):g}")
        axes[0].set_ylabel("score of class 2")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        save(figure, folder, "theorem3")
