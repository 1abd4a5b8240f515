"""Metrics of single points summarised over seeds, and the paper's choice of one row per method."""

from __future__ import annotations

import pandas as pd

from mclr.config import Tier
from mclr.errors import UserError
from mclr.report.methods import METHODS, method

GROUP = ["model", "method", "hyperparameters", "guidance", "step"]
METRICS = ("fd", "precision", "recall", "is")


def summarise(metrics: pd.DataFrame, features: str) -> pd.DataFrame:
    """One row per (model, method, hyperparameters, guidance, step).

    Columns: those five, ``nfe``, ``n_samples``, ``protocol``, ``n_seeds``, and for each of fd,
    precision, recall and is the mean over seeds and, as ``<metric>_std``, the sample standard
    deviation (NaN for one seed). FD, precision and recall are those of the feature net
    ``features``; ``is`` is the mean of ``is_mean``. A point evaluated twice, because two
    experiments share a setting, counts once. One value missing makes the mean missing.

    Raises:
        UserError: a column is missing, or the rows were measured under different protocols.
    """
    sources = {f"{name}_{features}": name for name in METRICS[:3]} | {"is_mean": "is"}
    _check_columns(metrics, features, list(sources))
    check_protocol(metrics)
    rows = metrics.drop(columns=[name for name in METRICS if name in metrics.columns])
    rows = rows.rename(columns=sources).sort_values([*GROUP, "seed"], kind="stable")
    groups = rows.drop_duplicates([*GROUP, "seed"]).groupby(GROUP, sort=True)
    summary = groups[["nfe", "n_samples", "protocol"]].first()
    summary["n_seeds"] = groups.size()
    for name in METRICS:
        summary[name] = groups[name].mean(skipna=False)
        summary[f"{name}_std"] = groups[name].std(ddof=1, skipna=False)
    return summary.reset_index()


def best_rows(metrics: pd.DataFrame, features: str) -> pd.DataFrame:
    """The paper's rule (Table 1): per model and method, the row of ``summarise`` of lowest FD.

    Models keep the order in which they first occur in ``metrics``, methods the order of Table 1.
    """
    for name in metrics["method"].unique():
        method(name)
    models = {name: i for i, name in enumerate(metrics["model"].unique())}
    order = {name: i for i, name in enumerate(METHODS)}
    ranked = summarise(metrics, features).sort_values("fd", kind="stable", na_position="last")
    best = ranked.drop_duplicates(["model", "method"])
    places = [(models[m], order[k]) for m, k in zip(best["model"], best["method"], strict=True)]
    return best.iloc[sorted(range(len(best)), key=places.__getitem__)].reset_index(drop=True)


def check_metrics(metrics: pd.DataFrame, tier: Tier) -> None:
    """UserError unless the metrics hold the models of the tier, each with its base, and no other.

    Methods that the report does not know and mixed protocols are refused too.
    """
    for name in metrics["method"].unique():
        method(name)
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
    check_protocol(metrics)


def check_protocol(metrics: pd.DataFrame) -> None:
    """UserError if rows measured under different protocols would share a column."""
    found = sorted(str(name) for name in metrics["protocol"].unique())
    if len(found) > 1:
        raise UserError(
            f"metrics: rows of different protocols ({', '.join(found)}) cannot share a column; "
            "evaluate all points again with one configuration"
        )


def _check_columns(metrics: pd.DataFrame, features: str, wanted: list[str]) -> None:
    missing = [name for name in [*GROUP, "seed", *wanted] if name not in metrics.columns]
    if missing:
        nets = sorted(name[3:] for name in metrics.columns if str(name).startswith("fd_"))
        raise UserError(
            f"metrics: column {', '.join(missing)} is missing for features {features!r}; "
            f"measured with {', '.join(nets) or 'no feature net'}"
        )
