"""The paper's Table 1 as data, and beside it what was measured here.

Source: X. Li et al., "MCLR: Improving Conditional Modeling in Visual Generative Models via
Inter-Class Likelihood-Ratio Maximization …", March 2026, Table 1. Each method at the checkpoint of
its lowest FD on DINOv2 features; precision and recall on Inception features.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from mclr.config.tier import Tier
from mclr.models.config import Model
from mclr.objectives.catalogue import METHODS
from mclr.report.rows import COLUMNS, Table


@dataclass(frozen=True)
class PaperBlock:
    """The rows of one model: NFE, FD, precision, recall and IS of each method."""

    data: str
    model: str
    rows: Mapping[str, tuple[int, float, float, float, float]]


EDM2_S = PaperBlock(
    "ImageNet 64×64",
    "EDM2-S",
    {
        "base": (63, 95.20, 0.705, 0.614, 60.43),
        "cfg": (126, 43.75, 0.800, 0.565, 127.40),
        "ddo": (63, 72.97, 0.689, 0.642, 65.84),
        "cca": (63, 62.36, 0.762, 0.557, 76.13),
        "ccdpo": (63, 60.98, 0.784, 0.536, 86.11),
        "mclr": (63, 52.69, 0.800, 0.505, 90.68),
    },
)
VAR_D24 = PaperBlock(
    "ImageNet 256×256",
    "VAR-d24",
    {
        "base": (10, 182.12, 0.672, 0.623, 67.92),
        "cfg": (20, 45.08, 0.798, 0.542, 100.70),
        "cca": (10, 46.82, 0.873, 0.448, 98.92),
        "ccdpo": (10, 46.63, 0.881, 0.433, 100.12),
        "mclr": (10, 44.31, 0.893, 0.404, 100.84),
    },
)
EDM2_L = PaperBlock(
    "ImageNet 512×512",
    "EDM2-L",
    {
        "base": (63, 67.70, 0.753, 0.610, 250.07),
        "cfg": (126, 39.86, 0.844, 0.512, 360.30),
        "ddo": (63, 49.47, 0.737, 0.652, 268.72),
        "cca": (63, 51.45, 0.790, 0.574, 281.45),
        "ccdpo": (63, 51.92, 0.812, 0.544, 298.89),
        "mclr": (63, 42.50, 0.849, 0.492, 332.02),
    },
)
COUNTERPARTS = {("edm2", False): EDM2_S, ("edm2", True): EDM2_L, ("var", True): VAR_D24}
"""The paper's models by family, and whether they are of latents or tokens."""


@dataclass(frozen=True)
class Pair:
    """One value as the paper prints it and as it was measured here; a dash where there is none."""

    paper: str
    ours: str


@dataclass(frozen=True)
class Beside:
    """One model beside the paper's.

    Of each method a ``Pair`` per entry of ``TITLES``, and what would change our mind about it.
    """

    ours: str
    paper: str
    rows: tuple[tuple[str, tuple[Pair, ...], str], ...]


TITLES = ("FD ↓", "FD ÷ base", "Prec. ↑", "Rec. ↑", "IS ↑", "IS ÷ base")


def counterpart(model: Model) -> PaperBlock | None:
    """The paper's model of the same kind: pixels, latents or tokens.

    None where labels leak, and for a family that the paper does not have.
    """
    if getattr(model.base, "label_noise", 0):
        return None
    return COUNTERPARTS.get((model.family, model.has_coder))


def beside_paper(
    table: Table, tier: Tier, minds: Mapping[str, Mapping[str, str]] | None = None
) -> list[Beside]:
    """Of every model with a counterpart the methods that both have; ``table`` is Table 1.

    minds: by model and method what would change our mind.
    """
    found = []
    for (name, model), block in zip(tier.models.items(), table.blocks, strict=True):
        paper = counterpart(model)
        if paper is None:
            continue
        records = table.rows[table.rows["model"] == name].to_dict("records")
        measured = {str(row["method"]): row for row in records}
        cells = {
            str(row["method"]): [cell.value for cell in line.cells]
            for row, line in zip(records, block.rows, strict=True)
        }
        rows = tuple(
            (
                METHODS[m].label(paper.model),
                _pairs(m, paper, cells[m], measured),
                (minds or {}).get(name, {}).get(m, ""),
            )
            for m in paper.rows
            if m in measured
        )
        found.append(Beside(model.label, f"{paper.model}, {paper.data}", rows))
    return found


def _pairs(
    method: str,
    paper: PaperBlock,
    cells: list[str],
    measured: Mapping[str, Mapping[Hashable, Any]],
) -> tuple[Pair, ...]:
    """The values of one method in the order of ``TITLES``."""
    theirs, base = paper.rows[method][1:], paper.rows["base"][1:]
    printed = [f"{v:.{c.digits}f}" for v, c in zip(theirs, COLUMNS, strict=True)]
    fd, precision, recall, inception = (Pair(*pair) for pair in zip(printed, cells, strict=True))
    row, start = measured[method], measured["base"]
    return (
        fd,
        Pair(_ratio(theirs[0], base[0]), _ratio(row["fd"], start["fd"])),
        precision,
        recall,
        inception,
        Pair(_ratio(theirs[3], base[3]), _ratio(row["is"], start["is"])),
    )


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if math.isfinite(value) and base > 0 else "–"
