"""The points that show MCLR beside CFG: from the same noise, by γ and by step."""

from __future__ import annotations

import pandas as pd

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.planning.points import GRID, Point, is_average
from mclr.report.summary import complete, table_rows


def guided_and_tuned(
    metrics: pd.DataFrame, tier: Tier, model: str
) -> tuple[list[Point], list[Point]]:
    """Points of the base model by γ, from γ = 0 on, and of MCLR by step.

    MCLR with the hyperparameters of Table 1, in whichever experiments, and, of their seeds on the
    grid, the lowest; the base model's points are on the same block of image seeds.

    Raises:
        UserError: MCLR was not run on this model, or in another tier.
    """
    plan, net = Plan(tier), tier.report.features
    best = table_rows(metrics, net, net, GRID)
    chosen = best[(best["model"] == model) & (best["method"] == "mclr")]
    if chosen.empty:
        raise UserError(
            f"metrics: no row of method 'mclr' for model {model!r}; run `snakemake` to evaluate it"
        )
    rows = complete(metrics)
    rows = rows[(rows["model"] == model) & (rows["method"] == "mclr") & (rows["stage"] == GRID)]
    rows = rows[rows["hyperparameters"] == chosen["hyperparameters"].iloc[0]]
    seed = rows["seed"].min()
    names = rows.loc[rows["seed"] == seed, "run_id"].drop_duplicates().sort_values()
    runs = [plan.runs[name] for name in names if name in plan.runs]
    if not runs:
        raise UserError(f"metrics: the runs of model {model!r} are not those of tier {tier.tier}")
    base = [point for point in plan.points(f"{model}-base") if point.seed == seed]
    of_average = is_average(str(chosen["hyperparameters"].iloc[0]))
    tuned = {
        p.step or 0: p
        for run in runs
        for p in plan.points(run.experiment)
        if p.run.run_id == run.run_id and p.averaged == of_average
    }
    return sorted(base, key=lambda point: point.guidance or 0.0), [tuned[s] for s in sorted(tuned)]
