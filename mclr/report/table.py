"""Table 1 in the paper's layout: as data, Markdown, LaTeX and plain text.

A block per model and a row per method, each at its best FD; the best value of a column is bold,
the second underlined. Values are compared as printed, so equal prints share a mark.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mclr.config import Tier
from mclr.files import write_text
from mclr.report.methods import METHODS, describe
from mclr.report.summary import best_rows, check_metrics, summarise

__all__ = ["Block", "Cell", "Row", "best_rows", "blocks", "caption", "summarise"]
__all__ += ["terminal_table", "write_table"]

CSV_COLUMNS = [
    *("model", "method", "nfe"),
    *("fd", "fd_std", "precision", "precision_std", "recall", "recall_std", "is", "is_std"),
    *("step", "guidance", "hyperparameters", "n_seeds"),
]


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
    """One method: where its best FD was found (``chosen``), and its cells, one per column."""

    method: str
    nfe: int
    chosen: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """The rows of one model under its heading."""

    heading: str
    rows: tuple[Row, ...]


def blocks(metrics: pd.DataFrame, tier: Tier) -> list[Block]:
    """Table 1 of a tier, ready to print; UserError as ``check_metrics`` and ``summarise``."""
    best = _table_rows(metrics, tier)
    return [
        _block(f"{tier.data.source} ({name})", model.label, best[best["model"] == name])
        for name, model in tier.models.items()
    ]


def _table_rows(metrics: pd.DataFrame, tier: Tier) -> pd.DataFrame:
    """Best rows in the order of the tier's models, ablations left out."""
    check_metrics(metrics, tier)
    best = best_rows(metrics, tier.report.features)
    best = best[[METHODS[name].in_table for name in best["method"]]]
    return pd.concat([best[best["model"] == name] for name in tier.models], ignore_index=True)


def _block(heading: str, label: str, best: pd.DataFrame) -> Block:
    columns = [_cells(best, column) for column in COLUMNS]
    rows = [
        Row(METHODS[row["method"]].label(label), int(row["nfe"]), _chosen(row), cells)
        for row, cells in zip(best.to_dict("records"), zip(*columns, strict=True), strict=True)
    ]
    return Block(heading, tuple(rows))


def _chosen(row: Mapping[Hashable, Any]) -> str:
    """Where the row of lowest FD was found, in words; the base model had no choice."""
    if row["method"] == "base":
        return ""
    where = f"γ = {row['guidance']:g}" if row["guidance"] else f"step {row['step']}"
    return ", ".join(part for part in (where, describe(row["hyperparameters"])) if part)


def _cells(best: pd.DataFrame, column: Column) -> list[Cell]:
    values, spreads = best[column.metric].tolist(), best[f"{column.metric}_std"].tolist()
    digits = _digits(values, column)
    printed = [f"{value:.{digits}f}" if math.isfinite(value) else "n/a" for value in values]
    sign = 1 if column.lower_is_better else -1
    finite = sorted(sign * float(text) for text in printed if text != "n/a")
    ranks = [finite.index(sign * float(text)) + 1 if text != "n/a" else 0 for text in printed]
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


def caption(metrics: pd.DataFrame, tier: Tier) -> str:
    """What the numbers are: images, seeds, feature net, protocol."""
    best = _table_rows(metrics, tier)
    low, high = int(best["n_seeds"].min()), int(best["n_seeds"].max())
    seeds = f"{low}" if low == high else f"{low} to {high}"
    spread = "; value ± sample standard deviation over seeds" if high > 1 else ""
    return (
        f"Each method at the checkpoint (or guidance scale) of its lowest FD. "
        f"{int(best['n_samples'].iloc[0]):,} images per seed, {seeds} "
        f"seed{'s' if high > 1 else ''} per row{spread}. FD, precision and recall on features "
        f"{tier.report.features}; protocol {best['protocol'].iloc[0]}."
    )


# ------------------------------------------------------------------ formats


def write_table(metrics: pd.DataFrame, tier: Tier, folder: Path) -> list[Path]:
    """Write ``table1.csv``, ``table1.md`` and ``table1.tex`` into ``folder``, each whole."""
    best = _table_rows(metrics, tier)[CSV_COLUMNS]
    texts = {
        "table1.csv": best.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        "table1.md": _markdown(metrics, tier),
        "table1.tex": _latex(metrics, tier),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _markdown(metrics: pd.DataFrame, tier: Tier) -> str:
    marks = ("{}", "**{}**", "<u>{}</u>")
    lines = [_pipe(HEADER), "|:--|" + "--:|" * (len(HEADER) - 1)]
    for block in blocks(metrics, tier):
        lines.append(_pipe([f"**{_md(block.heading)}**", *[""] * (len(HEADER) - 1)]))
        for row in block.rows:
            cells = [_spread(marks[c.rank].format(c.value), c.spread, " ± ") for c in row.cells]
            lines.append(_pipe([_md(row.method), str(row.nfe), *cells]))
    return (
        "\n".join(
            [*lines, "", _md(caption(metrics, tier)), "Best **bold**, second <u>underlined</u>."]
        )
        + "\n"
    )


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _spread(value: str, spread: str, between: str) -> str:
    return f"{value}{between}{spread}" if spread else value


def _latex(metrics: pd.DataFrame, tier: Tier) -> str:
    marks = ("{}", "\\textbf{{{}}}", "\\underline{{{}}}")
    arrows = [f"{c.title} $\\{'down' if c.lower_is_better else 'up'}arrow$" for c in COLUMNS]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        "\\begin{tabular}{l" + "r" * (len(HEADER) - 1) + "}",
        "\\toprule",
        " & ".join(["Method", "NFE", *arrows]) + " \\\\",
    ]
    for block in blocks(metrics, tier):
        heading = _tex(block.heading)
        lines += [
            "\\midrule",
            f"\\multicolumn{{{len(HEADER)}}}{{c}}{{{heading}}} \\\\",
            "\\midrule",
        ]
        for row in block.rows:
            cells = [
                _spread(marks[c.rank].format(c.value), c.spread, " $\\pm$ ") for c in row.cells
            ]
            lines.append(" & ".join([_tex(row.method), str(row.nfe), *cells]) + " \\\\")
    note = _tex(caption(metrics, tier)).replace("±", "$\\pm$")
    note += " Best \\textbf{bold}, second \\underline{underlined}."
    lines += ["\\bottomrule", "\\end{tabular}", f"\\caption{{{note}}}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def terminal_table(metrics: pd.DataFrame, tier: Tier) -> str:
    """Table 1 as aligned plain text: ``*`` marks the best and ``+`` the second of a column."""
    marks = (" ", "*", "+")
    table: list[list[str] | str] = [HEADER]
    for block in blocks(metrics, tier):
        table.append(block.heading)
        for row in block.rows:
            cells = [_spread(c.value, c.spread, " ± ") + marks[c.rank] for c in row.cells]
            table.append([row.method, str(row.nfe), *cells])
    table[0] = [*HEADER[:2], *(f"{title} " for title in HEADER[2:])]
    rows = [line for line in table if isinstance(line, list)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [
        _align(line, widths) if isinstance(line, list) else f"{rule}\n{line}" for line in table
    ]
    note = textwrap.wrap(caption(metrics, tier) + " * best, + second of the block.", len(rule))
    return "\n".join([*lines, rule, *note]) + "\n"


def _align(row: list[str], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()
