"""Log-ratios by the ELBO beside the true ones, and the bias of few draws."""

from __future__ import annotations

from pathlib import Path

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array
from mclr.theory.topics.elbo_jensen import Curve


def draw(
    x: Array, exact: Array, elbo: Array, trained: Array, curves: tuple[Curve, Curve], folder: Path
) -> None:
    """Arrays of shape (N,): place, exact log-ratio and its two surrogates."""
    scale = (trained @ exact) / (trained @ trained)
    with style():
        figure, (left, right) = panels(2)
        left.plot(x, exact, color=COLOURS["truth"], label="exact")
        left.plot(x[::3], elbo[::3], "o", ms=4, color=PALETTE[0], label="ELBO, weight g²")
        left.plot(
            x, scale * trained, "--", color=PALETTE[1], label=f"EDM2's w(σ), p(σ), × {scale:.2f}"
        )
        left.set(xlabel="x", ylabel="log p(x|c) / p(x|c̃)", title="Log-likelihood ratio")
        left.legend(fontsize=8)
        for curve, name, colour in zip(
            curves, ("CC-DPO, (156)", "CCA, (159)"), (COLOURS["ccdpo"], COLOURS["cca"]), strict=True
        ):
            right.plot(curve.draws, curve.bias, "o", color=colour, label=name)
            right.plot(curve.draws, curve.limit / curve.draws, "-", lw=1, color=colour)
        right.plot([], [], "-", lw=1, color=COLOURS["truth"], label="σ(m)σ(−m) Var / 2M")
        right.set(xscale="log", yscale="log", xlabel="draws M of (σ, ε)", ylabel="bias of the loss")
        right.set_title("Jensen bounds")
        right.legend(fontsize=8)
        save(figure, folder, "elbo")
