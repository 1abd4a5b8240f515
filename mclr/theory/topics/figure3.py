"""Figure 3: one contrast between p⁺ and p⁻ behind CFG, Autoguidance and reward guidance."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.mixtures import Array, line
from mclr.theory.lab.statement import Statement
from mclr.theory.topics.corollary3 import Case, bins, cases, likelihood_optimum
from mclr.theory.topics.guidance import guided_samples

ETA = 1.0
X = np.linspace(-3.5, 4.5, 65)


def favoured(case: Case, samples: Array) -> float:
    """Share of 1-D samples (N,) where p⁺ > p⁻."""
    x = samples[:, None]
    return float((case.positive.log_density(x) > case.negative.log_density(x)).mean())


def gains(case: Case) -> tuple[float, float]:
    """What the optimum of (142) and guided sampling add to p⁺'s mass where p⁺ > p⁻."""
    here = case.positive.log_density(X[:, None]) > case.negative.log_density(X[:, None])
    contrast = likelihood_optimum(case, X, ETA)[here].sum() - bins(case.positive, X)[here].sum()
    guided, plain = (
        favoured(case, guided_samples(case.positive, case.negative, eta)) for eta in (ETA, 0.0)
    )
    return float(contrast), guided - plain


def run(figures: Path) -> list[Statement]:
    """The figure's message as a statement, and the figure."""
    draw(figures)
    found = {case.name: gains(case) for case in cases()}
    words = "; ".join(f"{name} {a:+.3f}, {b:+.3f}" for name, (a, b) in found.items())
    return [
        Statement(
            id="figure3-same-direction",
            title="Figure 3",
            equations="(140), (142)",
            claim="In each case both the optimum of the contrast (142) and guided sampling hold "
            f"more mass where p⁺ > p⁻ than p⁺ does (gains: {words}); largest loss",
            world=f"{line().name}, η = γ = {ETA:g}",
            deviation=max(max(0.0, -min(pair)) for pair in found.values()),
            tolerance=0.0,
            reason="a sign, of gains far above the quadrature's error",
            figure="figure3",
        )
    ]


def draw(folder: Path) -> None:
    """Above: p⁺, p⁻ and the optimum of (142). Below: p⁺ and what guided sampling makes of it."""
    width = X[1] - X[0]
    with style():
        figure, axes = panels(3, 2, width=3.4, height=2.4)
        for column, case in enumerate(cases()):
            plus, minus = bins(case.positive, X) / width, bins(case.negative, X) / width
            optimum = likelihood_optimum(case, X, ETA) / width
            samples = guided_samples(case.positive, case.negative, ETA)
            top, bottom = axes[column], axes[column + 3]
            tallest = max(optimum.max(), np.histogram(samples, X, density=True)[0].max())
            for axis in (top, bottom):
                axis.plot(X, plus, color=COLOURS["truth"], label="p⁺")
                axis.plot(X, minus, "--", color=COLOURS["marginal"], label="p⁻")
                axis.set(ylim=(0, 1.05 * tallest))
            top.fill_between(
                X,
                optimum,
                color=PALETTE[0],
                alpha=0.35,
                lw=0,
                label="optimum of the contrast (142)",
            )
            bottom.hist(
                samples, bins=X.tolist(), density=True, color=PALETTE[4], alpha=0.45,
                label="guided sampling (140)",
            )  # fmt: skip
            top.set(title=case.name)
            bottom.set(xlabel="x")
        axes[0].set_ylabel("density")
        axes[3].set_ylabel("density")
        lower, upper = axes[3].get_legend_handles_labels(), axes[0].get_legend_handles_labels()
        figure.legend(
            [*upper[0], lower[0][-1]], [*upper[1], lower[1][-1]], loc="outside lower center",
            ncols=4, fontsize=8,
        )  # fmt: skip
        save(figure, folder, "figure3")
