"""Corollary 1: fine-tuning with (13) undoes a base model that leaks other classes (18)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.statement import Statement
from mclr.theory.lab.tables_mclr import fine_tuned
from mclr.theory.lab.tabular import (
    Array,
    World,
    divergence,
    line_world,
    proof_worlds,
    random_world,
    total_variation,
)

LEAKS = (0.1, 0.5, 1.0)
FLOOR = 1e-13
TOLERANCE = 1e-11
REASON = "floor of 1e-13 on 10 points, and trades that stop at 1e-15"


def recovered(world: World, leak: float, eta: float) -> Array:
    """The optimum of (13) at η, where the base model is (18) with share ``leak``, shape (M, N)."""
    return fine_tuned(world, eta, world.mixed(leak), world.floor(FLOOR))


def recovery_error(world: World, leak: float, eta: float | None = None) -> float:
    """Largest difference of the optimum from p(x|c); η is the leak unless given."""
    found = recovered(world, leak, leak if eta is None else eta)
    return float(np.abs(found - world.conditional).max())


def remaining_leak_error(world: World, leak: float, eta: float) -> float:
    """Largest difference of the optimum from (18) with the share leak − η that is left."""
    return float(np.abs(recovered(world, leak, eta) - world.mixed(leak - eta)).max())


def excess_error(world: World, leak: float, eta: float) -> float:
    """η above the leak: largest difference from (17) at the excess η − leak."""
    signed = world.mixed(leak - eta)
    limit = np.maximum(signed, 0)
    limit /= limit.sum(axis=1, keepdims=True)
    return float(np.abs(recovered(world, leak, eta) - limit).max())


def run(figures: Path) -> list[Statement]:
    """Every statement of Corollary 1, and its figure."""
    worlds = proof_worlds()
    short = [(world, leak, leak * part) for world in worlds for leak in LEAKS for part in (0, 0.6)]
    long = [(world, leak, leak * part) for world in worlds for leak in LEAKS for part in (1.5, 4)]
    draw(figures)
    state = partial(
        Statement,
        world=f"{len(worlds)} worlds of 10 points and 3 classes, leaks {LEAKS}",
        tolerance=TOLERANCE,
        reason=REASON,
        figure="corollary1",
    )
    return [
        state(
            id="corollary1-recovers",
            title="Corollary 1",
            equations="(13), (18)",
            claim="Fine-tuning a base model that leaks the share η gives p(x|c) back",
            deviation=max(recovery_error(world, leak) for world in worlds for leak in LEAKS),
        ),
        state(
            id="corollary1-too-small",
            title="Corollary 1, η too small",
            equations="(13), (18)",
            claim="With η below the leak, the leak that remains is their difference: the distance "
            "to p(x|c) falls linearly in η",
            deviation=max(remaining_leak_error(*setting) for setting in short),
        ),
        state(
            id="corollary1-too-large",
            title="Corollary 1, η too large",
            equations="(13), (17), (18)",
            claim="With η above the leak, the result is that of (11) on the data, (17), at the "
            "excess η − leak",
            deviation=max(excess_error(*setting) for setting in long),
        ),
    ]


def draw(folder: Path) -> None:
    """Left: one class, before and after. Right: distance to p(x|c) against η."""
    line, leak, c = line_world(), 0.5, 1
    etas = np.linspace(0, 2, 21)
    world = random_world(1)
    found = [recovered(world, leak, eta) for eta in etas]
    away = np.array([world.prior @ total_variation(p, world.conditional) for p in found])
    lost = np.array([world.prior @ divergence(p, world.conditional) for p in found])
    with style():
        figure, (left, right) = panels(2)
        x = np.arange(len(line.marginal))
        left.plot(x, line.mixed(leak)[c], "--", color=COLOURS["base"], label="base, η = 0.5 leaks")
        left.plot(x, line.conditional[c], color=COLOURS["truth"], label="p(x|c)")
        fine = recovered(line, leak, leak)[c]
        left.plot(x, fine, ".", color=COLOURS["mclr"], label="fine-tuned with (13)")
        left.set(xlabel="point x", ylabel="probability", title="Leak undone")
        left.legend(fontsize=7, loc="upper left")
        right.plot(etas, away, "o-", color=PALETTE[0], label="total variation")
        right.plot(etas, lost, "s-", color=PALETTE[1], label="KL(p_θ ‖ p(x|c)), nats")
        right.axvline(leak, color=COLOURS["base"], linestyle=":", label="leak of the base")
        right.set(xlabel="η of the fine-tuning", ylabel="distance to p(x|c)", title="A wrong η")
        right.legend(fontsize=7)
        save(figure, folder, "corollary1")
