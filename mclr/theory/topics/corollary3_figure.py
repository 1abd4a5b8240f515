"""Minimisers of Corollary 3's objective beside the guided scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array, Mixture, guided_score
from mclr.theory.lab.score_matching import Stationary

SIGMAS = ("0.3", "1")


def draw(found: list[tuple[str, Mixture, Mixture, Stationary]], y: Array, folder: Path) -> None:
    """A column per case, a row per noise level; entries are (case, p_t⁺, p_t⁻, minimiser at η=1).

    ``found`` lists all levels of one case, then of the next; y is (Y, 1).
    """
    x = np.linspace(y.min(), y.max(), 400)[:, None]
    rows = len(SIGMAS)
    with style():
        figure, axes = panels(len(found) // rows, rows, width=3.4, height=2.5)
        for i, (name, plus, minus, minimum) in enumerate(found):
            row, column = i % rows, i // rows
            axis = axes[row * (len(found) // rows) + column]
            axis.plot(x, plus.score(x), "--", color=COLOURS["marginal"], label="s⁺")
            axis.plot(x, minus.score(x), ":", color=PALETTE[5], label="s⁻")
            axis.plot(
                x, guided_score(plus, minus, x, 1.0), color=COLOURS["truth"],
                label="guided score (140), η = 1",
            )  # fmt: skip
            axis.plot(
                y[::2], minimum.table[::2], "o", color=PALETTE[0], ms=4, label="minimiser of (141)"
            )
            axis.set(title=f"{name}, σ = {SIGMAS[row]}", xlabel="x_t")
            axis.title.set_fontsize(9)
        axes[0].set_ylabel("score")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        save(figure, folder, "corollary3")
