"""The summarised rows of one model as the figures need them: by method, along one variable."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pandas as pd

from mclr.config.tier import Tier
from mclr.planning.points import FINAL, GRID, STUDY, dial_of
from mclr.report.making import Making
from mclr.report.methods import describe, methods_for
from mclr.report.names import swept_value
from mclr.report.summary import REAL, of_one_checkpoint, summarise, table_rows


class ModelView:
    """What was measured of one model, seen with one feature net.

    ``best`` holds the row of Table 1 of each method, as measured on the grid.
    """

    def __init__(self, metrics: pd.DataFrame, tier: Tier, model: str, features: str) -> None:
        own = metrics[metrics["model"] == model]
        self.tier, self.model, self.features = tier, model, features
        self.label, self.methods = tier.models[model].label, methods_for(tier, model)
        summary = summarise(own, features)
        self.summary = summary[summary["stage"] != FINAL]
        best = table_rows(own, features, tier.report.features, GRID)
        self.best = best.set_index("method")
        self.making = Making(own, tier)
        base = self.summary[self.summary["method"] == "base"]
        self._start = base.head(1).assign(step=0, dial=0.0)

    @property
    def real(self) -> pd.DataFrame:
        """The row of real images; empty if they were not measured."""
        return self._of(REAL, GRID)

    def has(self, method: str) -> bool:
        return method in set(self.summary["method"])

    def chosen(self, method: str) -> pd.DataFrame:
        """Grid rows by step (by γ for CFG) with the hyperparameters of Table 1."""
        rows = self._of(method, GRID)
        rows = rows[rows["hyperparameters"] == self.best.loc[method, "hyperparameters"]]
        return rows.sort_values(["step", "guidance"])

    def turned(self, method: str) -> pd.DataFrame:
        """Rows of the checkpoint of Table 1 along its dial, from little guidance to much."""
        best, rows = self.best.loc[method], self._of(method, GRID)
        settings = _without_dial(str(best["hyperparameters"]))
        same = rows["hyperparameters"].map(_without_dial) == settings
        found = rows[same & (rows["step"] == best["step"])]
        return found.assign(beta=found["hyperparameters"].map(dial_of)).sort_values(
            "beta", ascending=False
        )

    def studied(self, method: str, along: str = "guidance") -> pd.DataFrame:
        """Rows of a sampling study of one checkpoint along γ or t: see ``of_one_checkpoint``."""
        mclr = self.best["hyperparameters"].get("mclr")
        return of_one_checkpoint(self._of(method, STUDY), mclr).sort_values(along)

    def swept(
        self, methods: Iterable[str], keys: tuple[str, ...]
    ) -> list[tuple[str, str, pd.DataFrame]]:
        """(label, method, rows by step) for each value: of its variants that of lowest FD."""
        found: dict[str, pd.DataFrame] = {}
        for method in methods:
            for text, rows in self._of(method, GRID).groupby("hyperparameters", sort=True):
                value = swept_value(self.tier, self.model, str(text), keys)
                if value not in found or rows["fd"].min() < found[value]["fd"].min():
                    found[value] = rows.sort_values("step")
        return [
            (_words(value, keys), found[value]["method"].iloc[0], found[value])
            for value in sorted(found, key=_nameless_first)
        ]

    def from_base(self, rows: pd.DataFrame) -> pd.DataFrame:
        """``rows`` after the base model, which counts as step 0, γ = 0 and t = 0."""
        return pd.concat([self._start, rows], ignore_index=True)

    def from_best(self, rows: pd.DataFrame, method: str = "mclr") -> pd.DataFrame:
        """``rows`` after the row of Table 1 of the checkpoint that they sample."""
        start = self.best.loc[[method]].reset_index()[list(self.summary.columns)]
        return pd.concat([start, rows], ignore_index=True)

    def _of(self, method: str, stage: str) -> pd.DataFrame:
        is_meant = (self.summary["method"] == method) & (self.summary["stage"] == stage)
        found: pd.DataFrame = self.summary[is_meant]
        return found


def _nameless_first(value: str) -> list[tuple[bool, str | float]]:
    """Key that sorts values of ``swept_value``; None is that of a run that does not name it."""
    return [(False, 0) if one is None else (True, one) for one in json.loads(value)]


def _without_dial(hyperparameters: str) -> str:
    settings = json.loads(hyperparameters)
    return json.dumps({key: settings[key] for key in sorted(settings) if key != "dial"})


def _words(value: str, keys: tuple[str, ...]) -> str:
    return describe(json.dumps(dict(zip(keys, json.loads(value), strict=True)))).replace("=", " = ")
