"""What was measured of one model with one feature net, as curves: points by seeds."""

from __future__ import annotations

import copy
import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mclr.planning.points import GRID, STUDY
from mclr.report.summary import POINT, complete, of_one_checkpoint, table_rows

Values = NDArray[np.float64]

BY_NET = ("fd", "precision", "recall", "accuracy")
ROW = ["run_id", "method", "step", "guidance", "seed", "stage"]


class NotMeasuredError(Exception):
    """The rows that a claim needs are not there; the message says which."""


@dataclass(frozen=True)
class Curve:
    """One metric along the points of one method.

    ``x`` (P,) is where each point lies: the step, or γ; ``values`` (P, S) has a column for each
    of ``seeds``; ``rows`` are the rows of ``metrics.parquet`` behind them, with their value.
    """

    x: Values
    values: Values
    seeds: tuple[int, ...]
    rows: tuple[dict[str, Any], ...]

    def per_seed(self, numbers: Iterable[float]) -> Curve:
        """A number computed from each seed's own curve in the place of the points: (1, S)."""
        values = np.array([list(numbers)], dtype=np.float64)
        return replace(self, x=np.zeros(1), values=values)


@dataclass(frozen=True)
class Leak:
    """Of a model whose labels leak, Eq. (18): the share η, and the same model without a leak."""

    share: float
    classes: int
    clean: View


class View:
    """The measured rows of one model, seen with one feature net.

    Args:
        metrics: all rows of a tier; of older ones the columns stage and dial may be missing.
        features: the feature net of FD, precision, recall and accuracy.
        by: the feature net whose FD chose the points that were trained again.
    """

    def __init__(self, metrics: pd.DataFrame, model: str, features: str, by: str) -> None:
        rows = complete(metrics[metrics["model"] == model])
        self.rows = rows.drop_duplicates([*POINT, "stage", "seed"])
        self.features = features
        self.leak: Leak | None = None
        self._paths: dict[tuple[str, str], Curve] = {}
        self._table = table_rows(metrics[metrics["model"] == model], features, by)

    @property
    def nets(self) -> list[str]:
        """The feature nets that the rows were measured with."""
        return [str(name)[3:] for name in self.rows.columns if str(name).startswith("fd_")]

    def seen_with(self, features: str) -> View:
        """The same points and the same choice among them, with another feature net's metrics."""
        other = copy.copy(self)
        other.features, other._paths = features, {}
        return other

    def at_table(self, metric: str, method: str) -> Curve:
        """The single point of a method in Table 1: final seeds, if there are any."""
        chosen = self.chosen(method)
        rows = self._of(method, chosen["stage"])
        for key in POINT[2:]:
            rows = rows[rows[key] == chosen[key]]
        return self._curve(metric, rows, "step")

    def chosen(self, method: str) -> dict[Hashable, Any]:
        """The row of a method in Table 1; NotMeasuredError if it has none."""
        rows = self._table[self._table["method"] == method]
        if rows.empty:
            raise NotMeasuredError(f"no rows of method {method}")
        return dict(rows.iloc[0])

    def path(self, metric: str, method: str) -> Curve:
        """All points of a method on the grid, from the base model on.

        Fine-tuned models along their steps, with the hyperparameters of Table 1; CFG along γ; a
        sampling study of the best checkpoint along its γ, from that checkpoint on.
        """
        key = metric, method
        if key not in self._paths:
            self._paths[key] = self._path(metric, method)
        return self._paths[key]

    def _path(self, metric: str, method: str) -> Curve:
        studied = self._of(method, STUDY)
        if method != "cfg" and not studied.empty:
            mclr = self._table.loc[self._table["method"] == "mclr", "hyperparameters"]
            rows = of_one_checkpoint(studied, mclr.iloc[0] if len(mclr) else "")
            return self._curve(metric, rows, "guidance")
        rows = self._of(method, GRID)
        if method != "cfg":
            rows = rows[rows["hyperparameters"] == self.chosen(method)["hyperparameters"]]
        return self._from_base(metric, rows, "guidance" if method == "cfg" else "step")

    def sweep(self, metric: str, methods: Iterable[str], key: str) -> dict[float, Curve]:
        """For each value of one hyperparameter, the path of lowest FD among those that have it."""
        found: dict[float, tuple[float, Curve]] = {}
        for method in methods:
            rows = self._of(method, GRID)
            for text, variant in rows.groupby("hyperparameters", sort=True):
                value = json.loads(str(text)).get(key)
                if value is None:
                    continue
                lowest = float(np.min(self._curve("fd", variant, "step").values.mean(1)))
                if value not in found or lowest < found[value][0]:
                    found[value] = lowest, self._from_base(metric, variant, "step")
        if len(found) < 2:
            raise NotMeasuredError(f"{key} of {', '.join(methods)} was not varied")
        return {value: found[value][1] for value in sorted(found)}

    def alike(self, metric: str, method: str, key: str) -> dict[float, Curve]:
        """The paths of one sweep, in which all but ``key`` is alike, by its value.

        Of several sweeps the one with the most values counts, then that of the lowest FD.
        """
        rows, sweeps = self._of(method, GRID), dict[str, dict[float, pd.DataFrame]]()
        for text, variant in rows.groupby("hyperparameters", sort=True):
            settings = json.loads(str(text))
            value = settings.pop(key, None)
            if value is not None:
                sweeps.setdefault(json.dumps(settings, sort_keys=True), {})[value] = variant
        column = self.column("fd")

        def rank(sweep: dict[float, pd.DataFrame]) -> tuple[int, float]:
            return -len(sweep), min(float(variant[column].min()) for variant in sweep.values())

        best = min(sweeps.values(), key=rank, default={})
        if len(best) < 2:
            raise NotMeasuredError(f"{key} of {method} was not varied with all else alike")
        return {value: self._from_base(metric, best[value], "step") for value in sorted(best)}

    def _of(self, method: str, stage: str) -> pd.DataFrame:
        return self.rows[(self.rows["method"] == method) & (self.rows["stage"] == stage)]

    def _from_base(self, metric: str, rows: pd.DataFrame, x: str) -> Curve:
        """The path with the base model, on the same image seeds, as its first point."""
        base = self._of("base", GRID)
        base = base[base["seed"].isin(rows["seed"])].assign(**{x: 0})
        return self._curve(metric, pd.concat([base, rows]) if len(rows) else rows, x)

    def _curve(self, metric: str, rows: pd.DataFrame, x: str) -> Curve:
        """Points measured with every seed; NotMeasuredError if there are none."""
        column = self.column(metric)
        if column not in rows.columns:
            raise NotMeasuredError(f"no column {column}")
        table = rows.pivot_table(column, x, "seed", aggfunc="first").dropna()
        if table.empty:
            raise NotMeasuredError(f"no finite {column} for {_methods(rows) or 'these methods'}")
        used = rows[rows[x].isin(table.index)]
        listed = (
            used[ROW].assign(column=column, value=used[column]).sort_values([*ROW], kind="stable")
        )
        return Curve(
            table.index.to_numpy(np.float64),
            table.to_numpy(np.float64),
            tuple(int(seed) for seed in table.columns),
            tuple({str(k): v for k, v in row.items()} for row in listed.to_dict("records")),
        )

    def column(self, metric: str) -> str:
        """The column of ``metrics.parquet`` that holds a metric."""
        if metric in BY_NET:
            return f"{metric}_{self.features}"
        return "is_mean" if metric == "is" else metric


def _methods(rows: pd.DataFrame) -> str:
    return ", ".join(sorted(set(rows["method"])))
