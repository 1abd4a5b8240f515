"""Table 1 in the paper's layout: a block per model, a row per method, a cell per metric.

The best value of a column is bold, the second underlined. Values are compared as printed, so equal
prints share a mark. Real images, where they were measured, lead a block and are not ranked.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mclr.config.evaluation import fd_and_rest
from mclr.config.tier import Tier
from mclr.objectives.method import Method
from mclr.planning.points import FINAL, GRID
from mclr.report.edges import MARK, NOTE, edges_of
from mclr.report.making import Making
from mclr.report.methods import describe, methods_for
from mclr.report.summary import REAL, check_metrics, table_rows


@dataclass(frozen=True)
class Column:
    """A metric column; ``digits`` after the point are the paper's."""

    metric: str
    title: str
    lower_is_better: bool
    digits: int

    @property
    def arrow(self) -> str:
        return "↓" if self.lower_is_better else "↑"


COLUMNS = (
    Column("fd", "FD", True, 2),
    Column("precision", "Prec.", False, 3),
    Column("recall", "Rec.", False, 3),
    Column("is", "IS", False, 2),
)
HEADER = ["Method", "NFE", *(f"{column.title} {column.arrow}" for column in COLUMNS)]


@dataclass(frozen=True)
class Cell:
    """One printed value; rank 1 is best and 2 second of its block, 0 neither.

    ``spread`` is the printed standard deviation, empty with one seed.
    """

    value: str
    spread: str
    rank: int


@dataclass(frozen=True)
class Row:
    """One method: where its best FD was found (``chosen``), and its cells, one per column.

    ``training``: passes that it took to make it, see ``mclr.report.making``.
    A method that was chosen at an edge of its sweep is marked, see ``mclr.report.edges``.
    """

    method: str
    nfe: str
    training: str
    chosen: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """The rows of one model under its heading."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Table 1 ready to print, and the rows it shows; ``name`` is that of its files."""

    name: str
    rows: pd.DataFrame
    blocks: tuple[Block, ...]
    caption: str


def make_table(
    metrics: pd.DataFrame, tier: Tier, features: str | None = None, stage: str = FINAL
) -> Table:
    """Table 1 of a tier with one feature net, that of the report if none is named.

    Where there are final seeds its values are theirs; with ``stage`` grid those of the same
    points on the grid, where they were selected: the paper's own rule.

    Raises:
        UserError: as ``check_metrics`` and ``summarise``.
    """
    check_metrics(metrics, tier)
    net = features or tier.report.features
    methods = {name: methods_for(tier, name) for name in tier.models}
    rows = table_rows(metrics, net, tier.report.features, stage)
    pairs = zip(rows["model"], rows["method"], strict=True)
    rows = rows[[methods[m][name].in_table or name == REAL for m, name in pairs]]
    found = pd.concat([_of_model(rows, name) for name in tier.models], ignore_index=True)
    edges = [edges_of(metrics, tier, row) for row in found.to_dict("records")]
    found = Making(metrics, tier).with_costs(found)
    found["edge"] = ["; ".join(words) for words in edges]
    source = tier.tier if tier.data.source == "images" else tier.data.source
    blocks = tuple(
        _block(f"{source} ({name})", model.label, found[found["model"] == name], methods[name])
        for name, model in tier.models.items()
    )
    name = "table1_selected" if stage == GRID else "table1" if features is None else f"table1_{net}"
    caption = _caption(found, tier, net, stage) + (NOTE if any(edges) else "")
    caption += _left_out(metrics, tier, methods) + _packages(metrics)
    return Table(name, found, blocks, caption)


def _of_model(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """The rows of one model, real images first."""
    own = rows[rows["model"] == model]
    real = own["method"] == REAL
    return pd.concat([own[real], own[~real]])


def _block(heading: str, label: str, rows: pd.DataFrame, methods: Mapping[str, Method]) -> Block:
    columns = [_cells(rows, column) for column in COLUMNS]
    found = [
        Row(
            methods[row["method"]].label(label) + (f" {MARK}" if row["edge"] else ""),
            "–" if row["method"] == REAL else str(int(row["nfe"])),
            _training(row),
            _chosen(row),
            cells,
        )
        for row, cells in zip(rows.to_dict("records"), zip(*columns, strict=True), strict=True)
    ]
    return Block(heading, tuple(found))


def _training(row: Mapping[Hashable, Any]) -> str:
    passes = row["training_passes"]
    is_known = row["method"] != REAL and math.isfinite(passes)
    return f"{passes:,.0f}" if is_known else "–"


def _chosen(row: Mapping[Hashable, Any]) -> str:
    """Where the row of lowest FD was found, in words; the base model had no choice."""
    if row["method"] in ("base", REAL):
        return ""
    where = f"γ = {row['guidance']:g}" if row["guidance"] else f"step {row['step']}"
    found = ", ".join(part for part in (where, describe(row["hyperparameters"])) if part)
    return f"{found} ({MARK} {row['edge']})" if row["edge"] else found


def _cells(rows: pd.DataFrame, column: Column) -> list[Cell]:
    values, spreads = rows[column.metric].tolist(), rows[f"{column.metric}_std"].tolist()
    ranked = (rows["method"] != REAL).tolist()
    digits = _digits([v for v, counts in zip(values, ranked, strict=True) if counts], column)
    printed = [f"{value:.{digits}f}" if math.isfinite(value) else "n/a" for value in values]
    sign = 1 if column.lower_is_better else -1
    takes_part = [r and text != "n/a" for r, text in zip(ranked, printed, strict=True)]
    order = sorted(sign * float(t) for t, yes in zip(printed, takes_part, strict=True) if yes)
    ranks = [
        order.index(sign * float(text)) + 1 if yes else 0
        for text, yes in zip(printed, takes_part, strict=True)
    ]
    return [
        Cell(
            text, f"{spread:.{digits}f}" if math.isfinite(spread) else "", rank if rank <= 2 else 0
        )
        for text, spread, rank in zip(printed, spreads, ranks, strict=True)
    ]


def _digits(values: list[float], column: Column) -> int:
    """The paper's digits, or as many as leave the smallest value three significant ones."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    needed = 2 - math.floor(math.log10(min(sizes))) if sizes else 0
    return max(column.digits, min(needed, 6)) if column.metric == "fd" else column.digits


def _caption(rows: pd.DataFrame, tier: Tier, net: str, stage: str) -> str:
    """What the numbers are: where they were chosen, images, seeds, feature net, protocol."""
    generated = rows[rows["method"] != REAL]
    low, high = int(generated["n_seeds"].min()), int(generated["n_seeds"].max())
    seeds = f"{low}" if low == high else f"{low} to {high}"
    spread = "; value ± sample standard deviation over seeds" if high > 1 else ""
    spread += _bases(tier) if stage == FINAL else ""
    protocols = dict(zip(generated["model"], generated["protocol"], strict=True))
    same = len(set(protocols.values())) == 1
    named = [p if same else f"{p} ({model})" for model, p in protocols.items()]
    return (
        f"Each method at the checkpoint (or guidance scale) of its lowest FD"
        f"{_selection(generated, tier, stage)}. "
        f"{int(generated['n_samples'].iloc[0]):,} images per seed, {seeds} "
        f"seed{'s' if high > 1 else ''} per row{spread}. {_on(net)}; "
        f"protocol {', '.join(dict.fromkeys(named))}."
    )


def _left_out(metrics: pd.DataFrame, tier: Tier, methods: Mapping[str, dict[str, Method]]) -> str:
    """Which methods were measured as ablations alone, and so are no rows, in words."""
    found = [
        f"{method.suffix.lstrip('+')} ({tier.models[model].label})"
        for model, known in methods.items()
        for name, method in known.items()
        if method.if_final and not method.in_table
        if ((metrics["model"] == model) & (metrics["method"] == name)).any()
    ]
    if not found:
        return ""
    return f" Measured as an ablation, without final seeds, and so no row: {', '.join(found)}."


def _bases(tier: Tier) -> str:
    """How many base models the final rows have, where it is not one."""
    if not tier.final or not tier.final.bases:
        return ""
    bases, seeds = tier.final.bases, len(tier.final.seeds)
    own = "its own base model" if bases == seeds else f"one of {bases} base models in turn"
    return f"; the rows of each seed have {own}, trained with another seed"


def _packages(metrics: pd.DataFrame) -> str:
    """With which packages rows were made, where these are not those of the lock file."""
    if "packages" not in metrics:
        return ""
    noted = metrics["packages"].dropna()
    return (
        f" Made with other packages than the lock file's, so numbers may differ from its: "
        f"{'; '.join(sorted(set(noted)))} ({len(noted):,} of {len(metrics):,} rows)."
    )


def _on(features: str) -> str:
    """Which net each metric is measured with, in words."""
    fd, rest = fd_and_rest(features)
    if fd == rest:
        return f"FD, precision and recall on features {fd}"
    return f"FD on features {fd}, precision and recall on {rest}"


def _selection(rows: pd.DataFrame, tier: Tier, stage: str) -> str:
    """On which images the points were selected, and on which they are reported."""
    if stage == GRID:
        return ", selected and reported on the same images (the paper's rule)"
    if FINAL in set(rows["stage"]):
        by = f"on features {tier.report.nets[0]}"
        return f" {by}, trained again with other seeds and reported on other images"
    return ""
