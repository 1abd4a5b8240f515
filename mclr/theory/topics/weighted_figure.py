"""Which ratio gives which guidance strength, and how well ratios are estimated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array
from mclr.theory.topics.weighted_estimate import Quality


def draw(
    sigmas: Array, reached: Mapping[str, Array], draws: Quality, labels: Quality, folder: Path
) -> None:
    """Left: strength reached by noise level (S,) for each ratio. Right: errors by effort."""
    with style():
        figure, (left, middle, right) = panels(3, width=3.7)
        for (name, values), colour, marker in zip(reached.items(), PALETTE, "osx", strict=False):
            left.plot(sigmas, values, marker + "-", color=colour, label=name)
        # The ratio from the training draw goes far below at some levels.
        left.set(
            xscale="log",
            ylim=(-2.4, 1.3),
            xlabel="noise level σ",
            ylabel="guidance strength of the minimiser",
        )
        left.set_title("Weight, γ = η = 1 asked")
        left.set_xticks([0.2, 0.5, 1, 2, 4], ["0.2", "0.5", "1", "2", "4"], minor=False)
        left.minorticks_off()
        left.legend(fontsize=7, loc="lower right")
        _quality(middle, draws, "draws M of the noise-level ELBO")
        _quality(right, labels, "partner labels K")
        middle.set_ylabel("posterior, error")
        save(figure, folder, "weighted")


def _quality(axis: Axes, quality: Quality, label: str) -> None:
    axis.plot(quality.effort, quality.spread, "o-", color=COLOURS["truth"], label="std. deviation")
    axis.plot(quality.effort, quality.bias, "s--", color=PALETTE[0], label="|bias|")
    axis.plot(quality.effort, quality.error, "^:", color=PALETTE[1], label="total variation")
    axis.set(xscale="log", yscale="log", xlabel=label)
    axis.legend(fontsize=7)
