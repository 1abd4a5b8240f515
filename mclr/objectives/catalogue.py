"""Every method of the paper, by name: the one place that table, figures, cards and claims read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mclr.objectives import untrained
from mclr.objectives.cca import ENTRY as CCA
from mclr.objectives.ccdpo import ENTRY as CCDPO
from mclr.objectives.ddo import ENTRY as DDO
from mclr.objectives.distill import ENTRY as DISTILL
from mclr.objectives.gft import ENTRY as GFT
from mclr.objectives.gft import WITH_DIAL
from mclr.objectives.mclr import ENTRY as MCLR
from mclr.objectives.mclr import WITH_DSM
from mclr.objectives.method import Method
from mclr.objectives.mg import ENTRY as MG
from mclr.objectives.wmclr import ENTRY as WMCLR

# Colours: Okabe & Ito's palette, told apart with any colour vision, legible on white and black.
METHODS = {
    method.name: method
    for method in (
        untrained.BASE,
        untrained.CFG,
        DISTILL,
        GFT,
        WITH_DIAL,
        MG,
        DDO,
        CCA,
        CCDPO,
        MCLR,
        WMCLR,
        WITH_DSM,
        untrained.MCLR_CFG,
        untrained.MCLR_AUTOGUIDANCE,
        untrained.CFG_INTERVAL,
        untrained.MCLR_DIAL,
        untrained.REAL,
    )
}
"""In the order of tables and legends."""

LAST_ROW = list(METHODS).index("wmclr")
SHAPES = (("H", "hexagon2"), ("8", "octagon"))
SHADES = ("#000000", "#7a5195", "#4d7c0f", "#be123c", "#0e7490")
"""Looks of methods that are not ours, where they name no colour."""


def place(name: str) -> tuple[int, int, str]:
    """Where a method stands in tables: one that is not ours after the last row of ours."""
    if name in METHODS:
        return list(METHODS).index(name), 0, name
    return LAST_ROW, 1, name


def with_others(others: Iterable[Method]) -> dict[str, Method]:
    """The catalogue with other methods in their places, each with a look."""
    found, distinct = dict(METHODS), {method.name: method for method in others}
    for i, name in enumerate(sorted(distinct)):
        marker, symbol = SHAPES[i % len(SHAPES)]
        colour = distinct[name].colour or SHADES[i % len(SHADES)]
        found[name] = replace(distinct[name], colour=colour, marker=marker, symbol=symbol)
    return {name: found[name] for name in sorted(found, key=place)}
