"""The metrics of a checkpoint beside those of its base model, from the table of a tier."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mclr.errors import UserError
from mclr.files import read_json, read_table
from mclr.inference.markdown import Raw, escaped
from mclr.inference.source import Source
from mclr.planning.points import FINAL, GRID
from mclr.report.methods import methods_for
from mclr.report.rows import COLUMNS, Column
from mclr.report.summary import REAL, complete, summarise
from mclr.report.verdict import Outcomes, of_own_images, outcome_of
from mclr.settings.section import canonical


@dataclass(frozen=True)
class Measured:
    """Metrics with one feature net: a line for real images, base model, CFG, and the recipe.

    own: FD, precision, recall and IS of the very checkpoint. final: whether the recipe was
    measured again with other seeds than those it was chosen on. answer: whether fine-tuning helped.
    """

    net: str
    protocol: str
    n_samples: int
    lines: list[list[str]]
    own: list[str]
    final: bool
    base_recall: str
    own_recall: str
    answer: str


HEADER = ["", "NFE", *(f"{c.title} {c.arrow}" for c in COLUMNS), "seeds"]


def measure(source: Source) -> list[Measured]:
    """With each feature net of the tier, that of its report first.

    Raises:
        UserError: no metrics, or none of this checkpoint.
    """
    metrics = _metrics(source)
    own = metrics[metrics["model"] == source.run.model]
    first = source.tier.report.features
    return [_with(source, own, net) for net in dict.fromkeys([first, *source.tier.features])]


def _metrics(source: Source) -> pd.DataFrame:
    """Of the whole tier; before there are any, of this experiment and its base model alone."""
    path, experiment = source.results / "metrics.parquet", source.run.experiment
    names = dict.fromkeys([source.base_run.experiment, experiment, f"{experiment}-final"])
    files = [source.results / "evaluations" / f"{name}.json" for name in names]
    if path.is_file() or not all(
        file.is_file() for file in files[: 1 if source.run.is_base else 2]
    ):
        return read_table(path)
    rows = [row for file in files if file.is_file() for row in read_json(file, "rows")["rows"]]
    texts = [canonical(row["hyperparameters"]) for row in rows]
    return pd.DataFrame(rows).assign(hyperparameters=texts)


def protocols(source: Source) -> dict[str, Any]:
    """Every protocol by its id; before the tier's file is there, that of the base model."""
    path = source.results / "protocols.json"
    base = source.results / "evaluations" / f"{source.base_run.experiment}.json"
    if path.is_file() or not base.is_file():
        found: dict[str, Any] = read_json(path)
        return found
    protocol = read_json(base, "protocol")["protocol"]
    return {protocol["id"]: protocol}


def _with(source: Source, metrics: pd.DataFrame, net: str) -> Measured:
    run, summary = source.run, summarise(metrics, net)
    mine = summary[
        (summary["method"] == run.method)
        & (summary["hyperparameters"] == canonical(run.hyperparameters))
        & (summary["step"] == source.step)
        & (summary["guidance"] == 0)
        & (summary["dial"] == 1)
    ]
    if mine.empty:
        raise UserError(
            f"{source.results / 'metrics.parquet'}: no row of {run.run_id} at step {source.step}; "
            "run `snakemake` to evaluate it"
        )
    base = _shown(summary[summary["method"] == "base"])
    recipe = _shown(mine)
    own_name = _bold(methods_for(source.tier, run.model)[run.method].suffix)
    base_name = _bold(source.model.label) if run.is_base else "base model"
    cfg = _one(summary, "cfg")
    lines = [
        _line("real images", _one(summary, REAL)),
        _line(base_name, base),
        _line("+CFG at its best scale", cfg),
    ]
    if not run.is_base:
        lines.append(_line(own_name, recipe))
    return Measured(
        net,
        str(recipe["protocol"]),
        int(recipe["n_samples"]),
        [line for line in lines if line],
        _own(source, metrics, net),
        recipe["stage"] == FINAL and run.settings is not None,
        f"{base['recall']:.3f}",
        f"{recipe['recall']:.3f}",
        "" if run.is_base else _answer(source, recipe, base, cfg),
    )


def _bold(name: str) -> Raw:
    return Raw(f"**{escaped(name)}, this model**")


def _answer(
    source: Source,
    recipe: Mapping[Hashable, Any],
    base: Mapping[Hashable, Any],
    cfg: Mapping[Hashable, Any] | None,
) -> str:
    """Did the method help here, by how much, and what to try next, in words."""
    methods = methods_for(source.tier, source.run.model)
    guided = outcome_of(methods["cfg"], cfg, base) if cfg else None
    rows = Outcomes(source.model.label, base["fd"], int(base["nfe"]), guided, {})
    return of_own_images(rows, outcome_of(methods[source.run.method], recipe, base))


def _shown(rows: pd.DataFrame) -> Mapping[Hashable, Any]:
    """Of the rows of one point, that of the final seeds if there are any."""
    final = rows[rows["stage"] == FINAL]
    row: Mapping[Hashable, Any] = (rows if final.empty else final).to_dict("records")[0]
    return row


def _one(summary: pd.DataFrame, method: str) -> Mapping[Hashable, Any] | None:
    """The row of a method: of final seeds if there are any, else of the lowest FD."""
    rows = summary[(summary["method"] == method) & summary["stage"].isin([GRID, FINAL])]
    return _shown(rows.sort_values("fd", kind="stable")) if len(rows) else None


def _own(source: Source, metrics: pd.DataFrame, net: str) -> list[str]:
    """Metrics of the file itself, on the images it was chosen by; none where nothing chose it."""
    if not source.run.settings:
        return []
    rows = complete(metrics)
    rows = rows[
        (rows["run_id"] == source.run.run_id)
        & (rows["step"] == source.step)
        & (rows["hyperparameters"] == canonical(source.run.hyperparameters))
        & (rows["guidance"] == 0)
        & (rows["stage"] == GRID)
    ]
    row = summarise(rows, net).to_dict("records")[0]
    return [_number(row[c.metric], _digits(row[c.metric], c)) for c in COLUMNS]


def _line(name: str, row: Mapping[Hashable, Any] | None) -> list[str]:
    if row is None:
        return []
    nfe = "–" if row["method"] == REAL else str(int(row["nfe"]))
    cells = []
    for c in COLUMNS:
        value, spread = row[c.metric], row[f"{c.metric}_std"]
        digits = _digits(value, c)
        text = _number(value, digits)
        cells.append(text + (f" ± {spread:.{digits}f}" if math.isfinite(spread) else ""))
    return [name, nfe, *cells, str(row["n_seeds"])]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"


def _digits(value: float, column: Column) -> int:
    """Decimals as in the table; of a small FD as many as leave three significant digits."""
    if column.metric != "fd" or not math.isfinite(value) or value <= 0:
        return column.digits
    return max(column.digits, 2 - math.floor(math.log10(value)))
