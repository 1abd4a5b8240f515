"""Theorem 1: what MCLR training (11) makes of tables, computed without the theorem."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mclr.theory.lab.drawing import COLOURS, PALETTE, panels, save, style
from mclr.theory.lab.statement import State, Statement
from mclr.theory.lab.tables_mclr import (
    floored,
    form_10,
    form_11,
    form_12,
    h,
    optimum,
    other_classes,
    truncated,
)
from mclr.theory.lab.tabular import Array, Mask, World, line_world, proof_worlds, total_variation

ETAS = (0.3, 1.0, 3.0)
DELTAS = (1e-2, 1e-4, 1e-6)
SMALL_DELTAS = (1e-6, 1e-7, 1e-8)
ROUNDING = "sums of a few hundred terms in double precision"
TRADES = "pairwise trades stop at 1e-15, and sums round"


def optimum_error(world: World, eta: float, delta: float) -> float:
    """Largest difference between the optimum of (11) and (16)."""
    floor = world.floor(delta)
    closed = np.array([floored(row, floor) for row in h(world, eta)])
    return float(np.abs(optimum(world, eta, floor) - closed).max())


def advantage(world: World, eta: float, delta: float, seed: int = 0, tries: int = 500) -> float:
    """The most by which (11) at a random allowed table exceeds (11) at (16); at least 0.

    Half of the tables are anywhere; half are (16) with some probability moved between two points.
    """
    floor = world.floor(delta)
    closed = np.array([floored(row, floor) for row in h(world, eta)])
    best = form_11(world, _log(closed), eta)
    generator = np.random.default_rng(seed)
    found = 0.0
    for trial in range(tries):
        draw_table = _anywhere if trial % 2 else _nearby
        table = draw_table(closed, floor, world.inside, generator)
        found = max(found, form_11(world, _log(table), eta) - best)
    return found


def _anywhere(closed: Array, floor: Array, inside: Mask, generator: np.random.Generator) -> Array:
    """A random allowed table."""
    table = np.tile(floor, (len(closed), 1))
    spare = generator.dirichlet(np.ones(inside.sum()), size=len(closed))
    table[:, inside] += (1 - floor.sum()) * spare
    return table


def _nearby(closed: Array, floor: Array, inside: Mask, generator: np.random.Generator) -> Array:
    """The table ``closed`` with some of what one point may give moved to another."""
    table = closed.copy()
    c = generator.integers(len(closed))
    giver, taker = generator.choice(np.flatnonzero(inside), size=2, replace=False)
    moved = 10.0 ** generator.uniform(-6, 0) * (table[c, giver] - floor[giver])
    table[c, giver] -= moved
    table[c, taker] += moved
    return table


def _log(p: Array) -> Array:
    """log p, and 0 where p is 0: no sample of any class falls there."""
    return np.log(np.where(p > 0, p, 1.0))


def limit_error(world: World, eta: float, delta: float) -> float:
    """Relative difference between the distance of the optimum from (17) and δ |K₋|."""
    distance = total_variation(optimum(world, eta, world.floor(delta)), truncated(h(world, eta)))
    outside = (world.inside & (h(world, eta) <= 0)).sum(axis=1)
    return float(np.abs(distance / delta - outside).max() / max(1, outside.max()))


def form_errors(world: World, eta: float, seed: int = 0) -> tuple[float, float]:
    """Largest |(10) − (11)| and |(12) − (11)| over random tables."""
    generator = np.random.default_rng(seed)
    shape = world.conditional.shape
    tables = [np.log(generator.dirichlet(np.ones(shape[1]), size=shape[0])) for _ in range(50)]
    reference = [form_11(world, table, eta) for table in tables]
    first = [abs(form_10(world, t, eta) - r) for t, r in zip(tables, reference, strict=True)]
    second = [abs(form_12(world, t, eta) - r) for t, r in zip(tables, reference, strict=True)]
    return max(first), max(second)


def other_class_error(world: World, eta: float, delta: float) -> float:
    """Equal priors, c̃ ≠ c: largest difference of the optimum from (16) at η M / (M − 1)."""
    count = len(world.prior)
    equal = World(world.name, np.full(count, 1 / count), world.conditional, world.inside)
    floor = equal.floor(delta)
    found = optimum(equal, eta, floor, other_classes(equal.prior))
    scaled = h(equal, eta * count / (count - 1))
    return float(np.abs(found - [floored(row, floor) for row in scaled]).max())


def run(figures: Path) -> list[Statement]:
    """Every statement of Theorem 1, and its figure."""
    worlds = proof_worlds()
    settings = [(world, eta) for world in worlds for eta in ETAS]
    floors = [(world, eta, delta) for world, eta in settings for delta in DELTAS]
    draw(figures)
    state = partial(
        Statement,
        title="Theorem 1",
        world=f"{len(worlds)} worlds of 10 points and 3 classes, η in {ETAS}",
        figure="theorem1",
    )
    return [
        *_optimum(state, floors),
        _limit(state, settings),
        *_forms(state, settings),
        _other_classes(state, floors),
    ]


def _optimum(state: State, floors: list[tuple[World, float, float]]) -> list[Statement]:
    """(16) solves (11)."""
    return [
        state(
            id="theorem1-optimum",
            equations="(11), (15), (16)",
            claim=f"The table that maximises (11) above a floor δ in {DELTAS} is max{{h/Z, δ}}",
            deviation=max(optimum_error(*setting) for setting in floors),
            tolerance=1e-12,
            reason=TRADES,
        ),
        state(
            id="theorem1-no-better",
            equations="(11), (16)",
            claim="No allowed table, random or near (16), has a larger objective than (16)",
            deviation=max(advantage(*setting) for setting in floors),
            tolerance=1e-12,
            reason=ROUNDING,
        ),
    ]


def _limit(state: State, settings: list[tuple[World, float]]) -> Statement:
    """Without a floor it is (17)."""
    return state(
        id="theorem1-limit",
        equations="(17)",
        claim="As δ falls the optimum tends to h⁺/∫h⁺: their total variation is δ |K₋|",
        deviation=max(limit_error(*s, delta) for s in settings for delta in SMALL_DELTAS),
        tolerance=1e-6,
        reason="probabilities known to 1e-15, δ down to 1e-8",
    )


def _forms(state: State, settings: list[tuple[World, float]]) -> list[Statement]:
    """(10), (11) and (12) are one objective."""
    forms = [form_errors(world, eta) for world, eta in settings]
    return [
        state(
            id="theorem1-forms-10-11",
            equations="(10), (11)",
            claim="Forms (10) and (11) are equal for every p_θ",
            deviation=max(first for first, _ in forms),
            tolerance=1e-12,
            reason=ROUNDING,
        ),
        state(
            id="theorem1-forms-11-12",
            equations="(11), (12)",
            claim="Forms (11) and (12) are equal for every p_θ",
            deviation=max(second for _, second in forms),
            tolerance=1e-12,
            reason=ROUNDING,
        ),
    ]


def _other_classes(state: State, floors: list[tuple[World, float, float]]) -> Statement:
    """What drawing c̃ among the other classes changes."""
    return state(
        id="theorem1-other-classes",
        equations="(11), (16)",
        claim="With equally likely classes and c̃ always another class, the optimum is (16) "
        "at η M/(M−1): only the strength changes",
        deviation=max(other_class_error(*setting) for setting in floors),
        tolerance=1e-12,
        reason=TRADES,
    )


def draw(folder: Path) -> None:
    """Left: h and the optimum at several floors. Right: how fast the optimum tends to (17)."""
    world, eta, c = line_world(25), 1.0, 1
    deltas = np.logspace(-2, -7, 6)
    found = {delta: optimum(world, eta, world.floor(delta)) for delta in deltas}
    with style():
        figure, (left, right) = panels(2)
        x = np.arange(len(world.marginal))
        left.plot(x, world.conditional[c], color=COLOURS["truth"], label="p(x|c)")
        left.plot(x, world.marginal, "--", color=COLOURS["marginal"], label="p(x)")
        left.plot(x, h(world, eta)[c], ":", color=COLOURS["density"], label="h(x|c)")
        for delta, colour in zip((deltas[0], deltas[2], deltas[-1]), PALETTE, strict=False):
            label = f"optimum, δ = {delta:.0e}"
            left.plot(x, found[delta][c], ".", color=colour, label=label)
        left.set(xlabel="point x", ylabel="probability", title="Optimum of (11), η = 1")
        left.legend(fontsize=7, loc="upper left")
        limit = truncated(h(world, eta))
        for k, colour in enumerate(PALETTE[:3]):
            outside = (h(world, eta)[k] <= 0).sum()
            distance = [total_variation(found[delta][k], limit[k]) for delta in deltas]
            right.plot(deltas, distance, "o", color=colour, label=f"class {k + 1}, optimum")
            line = "δ |K₋|" if k == 2 else None
            right.plot(deltas, deltas * outside, "-", color=colour, label=line)
        right.set(xscale="log", yscale="log", xlabel="floor δ", ylabel="TV to h⁺/∫h⁺")
        right.set_title("Convergence to (17)")
        right.legend(fontsize=7)
        save(figure, folder, "theorem1")
