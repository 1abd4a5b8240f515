"""Table 1 as CSV, Markdown, LaTeX and plain text, for the report's feature net and the others."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from mclr.config.tier import Tier
from mclr.files import write_text
from mclr.planning.points import GRID
from mclr.report.edges import MARK
from mclr.report.names import other_nets
from mclr.report.rows import COLUMNS, HEADER, Table, make_table

CSV_COLUMNS = [
    *("model", "method", "nfe", "training_passes"),
    *("fd", "fd_std", "precision", "precision_std", "recall", "recall_std", "is", "is_std"),
    *("step", "guidance", "hyperparameters", "n_seeds", "stage", "accuracy", "accuracy_std"),
    "edge",
]


def tables(metrics: pd.DataFrame, tier: Tier) -> list[Table]:
    """Every version of Table 1: the report's; with other feature nets; by the paper's own rule."""
    found = [make_table(metrics, tier)]
    found += [make_table(metrics, tier, net) for net in other_nets(tier)]
    return [*found, make_table(metrics, tier, stage=GRID)] if tier.final else found


def write_tables(metrics: pd.DataFrame, tier: Tier, folder: Path) -> list[Path]:
    """Write the files of ``names.table_files`` into ``folder``, each whole."""
    paths = []
    for table in tables(metrics, tier):
        texts = {
            "csv": table.rows[CSV_COLUMNS].to_csv(
                index=False, float_format="%.6g", lineterminator="\n"
            ),
            "md": markdown(table),
            "tex": latex(table),
        }
        for suffix, text in texts.items():
            path = folder / f"{table.name}.{suffix}"
            write_text(path, text)
            paths.append(path)
    return paths


def markdown(table: Table) -> str:
    """Table 1 in GitHub's Markdown."""
    marks = ("{}", "**{}**", "<u>{}</u>")
    lines = [_pipe(HEADER), "|:--|" + "--:|" * (len(HEADER) - 1)]
    for block in table.blocks:
        lines.append(_pipe([f"**{_md(block.heading)}**", *[""] * (len(HEADER) - 1)]))
        for row in block.rows:
            cells = [_spread(marks[c.rank].format(c.value), c.spread, " ± ") for c in row.cells]
            lines.append(_pipe([_md(row.method), row.nfe, *cells]))
    return (
        "\n".join([*lines, "", _md(table.caption), "Best **bold**, second <u>underlined</u>."])
        + "\n"
    )


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _spread(value: str, spread: str, between: str) -> str:
    return f"{value}{between}{spread}" if spread else value


def latex(table: Table) -> str:
    """Table 1 in LaTeX, with booktabs."""
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
    for block in table.blocks:
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
            lines.append(" & ".join([_marks(_tex(row.method)), row.nfe, *cells]) + " \\\\")
    note = _marks(_tex(table.caption))
    note += " Best \\textbf{bold}, second \\underline{underlined}."
    lines += ["\\bottomrule", "\\end{tabular}", f"\\caption{{{note}}}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def _marks(text: str) -> str:
    """Signs that LaTeX has names for."""
    return text.replace("±", "$\\pm$").replace(MARK, "$\\dagger$")


def _tex(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def terminal_table(metrics: pd.DataFrame, tier: Tier) -> str:
    """Table 1 as aligned plain text: ``*`` marks the best and ``+`` the second of a column."""
    marks = (" ", "*", "+")
    table = make_table(metrics, tier)
    lines: list[list[str] | str] = [HEADER]
    for block in table.blocks:
        lines.append(block.heading)
        for row in block.rows:
            cells = [_spread(c.value, c.spread, " ± ") + marks[c.rank] for c in row.cells]
            lines.append([row.method, row.nfe, *cells])
    lines[0] = [*HEADER[:2], *(f"{title} " for title in HEADER[2:])]
    rows = [line for line in lines if isinstance(line, list)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = [_align(line, widths) if isinstance(line, list) else f"{rule}\n{line}" for line in lines]
    note = textwrap.wrap(table.caption + " * best, + second of the block.", len(rule))
    return "\n".join([*text, rule, *note]) + "\n"


def _align(row: list[str], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()
