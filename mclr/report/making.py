"""What it costs to make a method, and from how many images on that is worth it.

The unit is a pass: one image forward through the network. A training step costs three for each
row with a gradient and one for each without; an image costs its NFE, see ``passes_per_image``. The
search for hyperparameters is not counted, neither is the base model, which all methods share.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from mclr.config.tier import Tier
from mclr.models.config import Model
from mclr.planning.grid import Grid
from mclr.planning.points import GRID, Run
from mclr.report.summary import REAL, summarise
from mclr.settings.section import canonical

UNTRAINED = ("base", "cfg", "cfg-interval", REAL)
CSV_COLUMNS = [
    *("model", "method", "step", "guidance", "hyperparameters", "stage", "fd", "fd_std"),
    *("training_passes", "passes_per_image", "images"),
]


def passes_per_image(model: Model, nfe: float) -> float:
    """Passes of an image that takes ``nfe`` network evaluations.

    In VAR the evaluations are one for each scale: together they have the tokens of one image, as
    one pass in training has.
    """
    return nfe / model.nfe_of(False) if model.family == "var" else nfe


class Making:
    """Training passes of the rows of a tier's metrics."""

    def __init__(self, metrics: pd.DataFrame, tier: Tier) -> None:
        self.tier, grid = tier, Grid(tier)
        summary = summarise(metrics, tier.report.features)
        self.tried = summary[summary["stage"] == GRID]
        self.runs = {
            (run.model, run.method, canonical(run.measured_as(averaged).hyperparameters)): run
            for experiment in grid.experiments
            for run in grid.of(experiment)
            for averaged in run.evaluated
        }
        self.grid = grid

    def passes(self, row: Mapping[Hashable, Any]) -> float:
        """Passes that trained the weights of a row; NaN where others trained them.

        Those of a negative of DDO are added, and those of the rounds before. NaN, too, for an
        objective of somebody's own, whose passes its code alone tells.
        """
        if row["method"] in UNTRAINED:
            return 0.0
        method = str(row["method"]).removesuffix("-dial").removesuffix("+cfg")
        method = method.removesuffix("+autoguidance")
        run = self.runs.get((row["model"], method, row["hyperparameters"]))
        if run is None or run.settings is None or run.settings.objective.is_own:
            return math.nan
        objective, model = run.settings.objective, self.tier.models[run.model]
        trained = float(row["step"]) * run.settings.batch * objective.passes.evaluations
        drawn = objective.needs.negatives * passes_per_image(model, model.nfe_of(False))
        return trained + drawn + self._rounds_before(run)

    def _rounds_before(self, run: Run) -> float:
        if not (run.settings and run.settings.start):
            return 0.0
        before = self.grid.of(run.settings.start)
        known = {canonical(r.measured_as(a).hyperparameters) for r in before for a in r.evaluated}
        rows = self.tried[self.tried["model"] == run.model]
        rows = rows[rows["hyperparameters"].isin(known) & (rows["method"] == before[0].method)]
        if rows.empty:
            return math.nan
        return self.passes(rows.nsmallest(1, "fd").iloc[0].to_dict())

    def images(self, row: Mapping[Hashable, Any]) -> float:
        """From how many images on a row costs no more than CFG does, the making included.

        An image saves what CFG takes beyond it: N = training passes / (passes of an image under
        CFG − of one here). NaN for rows that save nothing.
        """
        model = self.tier.models[str(row["model"])]
        guided = passes_per_image(model, model.nfe_of(True))
        saved = guided - passes_per_image(model, float(row["nfe"]))
        return self.passes(row) / saved if saved > 0 else math.nan

    def with_costs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Summarised rows with the columns training_passes, passes_per_image and images."""
        records = rows.to_dict("records")
        return rows.assign(
            training_passes=[self.passes(row) for row in records],
            passes_per_image=[
                passes_per_image(self.tier.models[str(row["model"])], float(row["nfe"]))
                for row in records
            ],
            images=[self.images(row) for row in records],
        )


def improving(rows: pd.DataFrame, level: float) -> pd.DataFrame:
    """Of rows with costs, by number of images, those with a lower FD than all cheaper ones.

    ``level``: FD of what costs nothing to make, the base model.
    """
    known = rows[rows["images"].notna() & rows["fd"].notna()].sort_values("images", kind="stable")
    lowest = known["fd"].cummin().shift(fill_value=math.inf).clip(upper=level)
    found: pd.DataFrame = known[known["fd"] < lowest]
    return found


def equal_cost_csv(metrics: pd.DataFrame, tier: Tier) -> str:
    """Every row that is measured without guidance, or with CFG, with what it costs."""
    summary = summarise(metrics, tier.report.features)
    meant = (summary["dial"] == 1) & (summary["method"] != REAL)
    priced = Making(metrics, tier).with_costs(summary[meant])
    return priced[CSV_COLUMNS].to_csv(index=False, float_format="%.6g", lineterminator="\n")
