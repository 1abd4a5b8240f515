"""Metrics of single points summarised over seeds, and the choice of one row per method."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mclr.config.evaluation import fd_and_rest
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.objectives.catalogue import place
from mclr.planning.points import FINAL, GRID, STUDY
from mclr.report.methods import methods_of

POINT = ["model", "method", "hyperparameters", "guidance", "step", "dial"]
GROUP = [*POINT, "stage"]
METRICS = ("fd", "precision", "recall", "is", "accuracy")
REAL = "real"


def complete(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows with the columns that an older table lacks: ``stage`` grid and ``dial`` 1.

    Real images have neither weights nor guidance; of their rows those stay that are as many as
    the generated images of the model, which alone can share a column with them.
    """
    rows = metrics.copy()
    for name, value in (("stage", GRID), ("dial", 1.0)):
        if name not in rows.columns:
            rows[name] = value
    real = rows["method"] == REAL
    if real.any():
        neutral: dict[str, Any] = {"hyperparameters": "{}", "guidance": 0.0, "step": 0}
        neutral |= {"dial": 1.0, "stage": GRID}
        for name, value in neutral.items():
            rows[name] = rows[name].where(~real, value)
        counts = rows[~real].groupby("model")["n_samples"].first()
        rows = rows[~real | (rows["n_samples"] == rows["model"].map(counts))]
    return rows


def floors(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of real images, of every number of images."""
    return metrics[metrics["method"] == REAL].sort_values(["model", "n_samples", "seed"])


def of_one_checkpoint(studied: pd.DataFrame, hyperparameters: object) -> pd.DataFrame:
    """Of the rows of one sampling study those of one checkpoint.

    The base model's if it was studied, else that with these ``hyperparameters``, else the first.
    """
    found = studied["hyperparameters"]
    for wanted in ("{}", hyperparameters, found.min() if len(found) else ""):
        same = found == wanted
        if same.any():
            break
    rows: pd.DataFrame = studied[same]
    return rows


def summarise(metrics: pd.DataFrame, features: str) -> pd.DataFrame:
    """One row per (model, method, hyperparameters, guidance, step, dial, stage).

    Columns: those, ``nfe``, ``n_samples``, ``protocol``, ``n_seeds``, and for each of fd,
    precision, recall, is and accuracy the mean over seeds and, as ``<metric>_std``, the sample
    standard deviation (NaN for one seed). All but ``is``, the mean of ``is_mean``, are those of
    the feature net ``features``, or of the two of "fd+rest"; accuracy is NaN for a net without it.
    A point evaluated twice, because two experiments share a setting, counts once. One value missing
    makes the mean missing.

    Raises:
        UserError: a column is missing, or rows of one model have different protocols.
    """
    fd, rest = fd_and_rest(features)
    sources = {f"fd_{fd}": "fd", f"precision_{rest}": "precision", f"recall_{rest}": "recall"}
    sources |= {"is_mean": "is"}
    _check_columns(metrics, features, list(sources))
    rows = complete(metrics)
    check_protocol(rows)
    rows = rows.drop(columns=[name for name in METRICS if name in rows.columns])
    rows = rows.rename(columns=sources | {f"accuracy_{rest}": "accuracy"})
    if "accuracy" not in rows.columns:
        rows["accuracy"] = float("nan")
    rows = rows.sort_values([*GROUP, "seed"], kind="stable")
    groups = rows.drop_duplicates([*GROUP, "seed"]).groupby(GROUP, sort=True)
    summary = groups[["nfe", "n_samples", "protocol"]].first()
    summary["n_seeds"] = groups.size()
    for name in METRICS:
        summary[name] = groups[name].mean(skipna=False)
        summary[f"{name}_std"] = groups[name].std(ddof=1, skipna=False)
    return summary.reset_index()


def best_rows(metrics: pd.DataFrame, features: str) -> pd.DataFrame:
    """The paper's rule (Table 1): per model and method, the row of ``summarise`` of lowest FD.

    Rows of the final seeds take no part. Models keep the order in which they first occur in
    ``metrics``, methods the order of Table 1.
    """
    summary = summarise(metrics, features)
    return _best(metrics, summary[summary["stage"] != FINAL])


def table_rows(metrics: pd.DataFrame, features: str, by: str, stage: str = FINAL) -> pd.DataFrame:
    """The rows of Table 1: per model and method, one row of ``summarise(metrics, features)``.

    Where a method has rows of final seeds, its point is, of the points that have them, the one of
    lowest FD of the net ``by`` on the grid; the row is that of the final seeds, or with ``stage``
    grid that of the grid, on which the choice was made. Elsewhere as ``best_rows``.
    """
    best = best_rows(metrics, features)
    best = best[best["stage"] != STUDY]
    final = _of_stage(summarise(metrics, features), FINAL)
    if final.empty:
        return best.reset_index(drop=True)
    # Which point, on the rows that the choice was made on.
    tried = _of_stage(summarise(metrics, by), GRID)
    tried = tried.merge(final[POINT], on=POINT)
    points = _best(metrics, tried)[POINT]
    shown = _of_stage(summarise(metrics, features), stage)
    chosen = points.merge(shown, on=POINT, how="inner")
    have = set(zip(chosen["model"], chosen["method"], strict=True))
    rest = [key not in have for key in zip(best["model"], best["method"], strict=True)]
    together = pd.concat([chosen, best[rest]], ignore_index=True)
    return _in_order(metrics, together[best.columns])


def _of_stage(summary: pd.DataFrame, stage: str) -> pd.DataFrame:
    return summary[summary["stage"] == stage]


def _best(metrics: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    ranked = summary.sort_values("fd", kind="stable", na_position="last")
    return _in_order(metrics, ranked.drop_duplicates(["model", "method"]))


def _in_order(metrics: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    models = {name: i for i, name in enumerate(metrics["model"].unique())}
    places = [(models[m], place(k)) for m, k in zip(rows["model"], rows["method"], strict=True)]
    return rows.iloc[sorted(range(len(rows)), key=places.__getitem__)].reset_index(drop=True)


# ------------------------------------------------------------------ checks


def check_metrics(metrics: pd.DataFrame, tier: Tier) -> None:
    """UserError unless the metrics hold the models of the tier, each with its base, and no other.

    Methods that the report does not know and mixed protocols of one model are refused too.
    """
    known = methods_of(tier)
    for name in metrics["method"].unique():
        if name not in known:
            raise UserError(f"metrics: unknown method {name!r}; expected one of {', '.join(known)}")
    for name in metrics["model"].unique():
        if name not in tier.models:
            raise UserError(
                f"metrics: model {name!r} is not in tier {tier.tier}; "
                f"expected {', '.join(tier.models)}"
            )
    measured = set(metrics.loc[metrics["method"] == "base", "model"])
    for name in tier.models:
        if name not in measured:
            raise UserError(
                f"metrics: no row of method 'base' for model {name!r}; run `snakemake` to "
                f"evaluate experiment {name}-base"
            )
    check_protocol(complete(metrics))


def check_protocol(metrics: pd.DataFrame) -> None:
    """UserError if rows of one model, measured under different protocols, would be compared.

    Models may differ: each is compared with references of its own resolution.
    """
    for model, rows in metrics.groupby("model", sort=False):
        found = sorted(str(name) for name in rows["protocol"].unique())
        if len(found) > 1:
            raise UserError(
                f"metrics: rows of model {model!r} under different protocols "
                f"({', '.join(found)}) cannot be compared; evaluate all its points again with one "
                "configuration"
            )


def _check_columns(metrics: pd.DataFrame, features: str, wanted: list[str]) -> None:
    keys = [name for name in POINT if name != "dial"]
    missing = [name for name in [*keys, "seed", *wanted] if name not in metrics.columns]
    if missing:
        nets = sorted(name[3:] for name in metrics.columns if str(name).startswith("fd_"))
        raise UserError(
            f"metrics: column {', '.join(missing)} is missing for features {features!r}; "
            f"measured with {', '.join(nets) or 'no feature net'}"
        )
