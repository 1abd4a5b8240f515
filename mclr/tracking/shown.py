"""Which points the first view of MLflow has: those of Table 1, and the paths that lead to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from mclr.config.tier import Tier
from mclr.planning.points import FINAL, GRID
from mclr.report.methods import methods_for
from mclr.settings.section import canonical

SHOWN = "mclr.shown"
"""The tag of a point that the first view has."""
TABLE, PATH = "table", "path"
"""A point of Table 1; one of the same hyperparameters at another checkpoint or guidance scale."""

Rows = list[Mapping[str, Any]]


def shown(tier: Tier, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """``TABLE`` or ``PATH`` by the path of a row; rows of neither are left out.

    The rule is that of Table 1 (``mclr.report.summary.table_rows``): of a method's points, of
    those with final seeds where there are any, the one of lowest FD on the grid. Its rows are those
    of the final seeds if there are any. Of a path one seed is shown.
    """
    fd = f"fd_{tier.report.nets[0]}"
    methods: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        if row.get("stage", GRID) in (GRID, FINAL) and row.get("dial", 1) == 1 and fd in row:
            methods[row["model"], row["method"]].append(row)
    found: dict[str, str] = {}
    for (model, method), own in methods.items():
        if methods_for(tier, model)[method].in_table:
            found |= _of_method(own, fd)
    return found


def _of_method(rows: Rows, fd: str) -> dict[str, str]:
    grid, final = _points(rows, GRID), _points(rows, FINAL)
    tried = {point: found for point, found in grid.items() if point in final} or grid
    if not tried:
        return {}
    best = min(tried, key=lambda point: fmean(row[fd] for row in tried[point]))
    setting = tried[best][0]["hyperparameters"]
    lowest = min(row["seed"] for row in tried[best])
    path = {
        row["path"]: PATH
        for found in grid.values()
        for row in found
        if row["hyperparameters"] == setting and row["seed"] == lowest
    }
    return path | {row["path"]: TABLE for row in final.get(best, grid[best])}


def _points(rows: Rows, stage: str) -> dict[str, Rows]:
    """Rows of a stage by what all seeds of a point have in common."""
    found: dict[str, Rows] = defaultdict(list)
    for row in rows:
        if row.get("stage", GRID) == stage:
            named = {key: row[key] for key in ("hyperparameters", "guidance", "step")}
            found[canonical(named)].append(row)
    return found
