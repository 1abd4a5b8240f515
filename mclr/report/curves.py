"""The curves of the paper (Figures 4-7 and 20-22) as charts, and their files."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mclr.config import Tier
from mclr.report.chart import Chart, Panel, Series
from mclr.report.methods import METHODS, describe, varying
from mclr.report.names import KINDS, kinds_of, stem
from mclr.report.summary import best_rows, check_metrics, summarise

LABELS = {"fd": "FD ↓", "is": "Inception Score ↑", "precision": "Precision ↑", "recall": "Recall ↑"}
DIGITS = {"fd": 2, "is": 2, "precision": 3, "recall": 3}
LOG_RANGE = 20.0  # an FD axis is logarithmic when its largest value is this many times its smallest


def charts(metrics: pd.DataFrame, tier: Tier) -> list[Chart]:
    """Every chart of a tier, in the order of ``figure_names``; grids are not charts.

    Raises:
        UserError: as ``check_metrics`` and ``summarise``.
    """
    check_metrics(metrics, tier)
    summary = summarise(metrics, tier.report.features)
    best = best_rows(metrics, tier.report.features)
    found = []
    for name, model in tier.models.items():
        view = _Model(model.label, summary[summary["model"] == name], best[best["model"] == name])
        for kind in kinds_of(tier, name):
            if kind in PANELS:
                panels, columns = PANELS[kind](view)
                title = f"{model.label}: {KINDS[kind].title}"
                found.append(
                    Chart(stem(name, kind), title, KINDS[kind].caption, tuple(panels), columns)
                )
    return found


def write_figures(metrics: pd.DataFrame, tier: Tier, folder: Path) -> list[Path]:
    """Write every chart of a tier as ``.pdf``, ``.png`` and interactive ``.html``.

    The same metrics give the same bytes. Returns the paths written, all named in
    ``names.figure_files``.
    """
    from mclr.report.interactive import write_html, write_library
    from mclr.report.static import write_static

    paths = []
    for chart in charts(metrics, tier):
        paths += [write_static(chart, folder / f"{chart.stem}.{end}") for end in ("pdf", "png")]
        paths.append(write_html(chart, folder / f"{chart.stem}.html"))
    return [*paths, write_library(folder)]


class _Model:
    """The summarised rows of one model, by method and hyperparameters."""

    def __init__(self, label: str, summary: pd.DataFrame, best: pd.DataFrame) -> None:
        self.label = label
        self.summary = summary
        self.best = best.set_index("method")
        self.base = summary[summary["method"] == "base"].iloc[0]

    def variants(self, method: str) -> list[tuple[str, pd.DataFrame]]:
        """(label, rows by step) for each choice of hyperparameters of one method."""
        rows = self.summary[self.summary["method"] == method]
        groups = list(rows.groupby("hyperparameters", sort=True))
        differing = varying(str(text) for text, _ in groups)
        found = []
        for text, group in groups:
            words = describe(str(text), differing)
            label = METHODS[method].label(self.label) + (f" ({words})" if words else "")
            found.append((label, group.sort_values("step")))
        return found

    def chosen(self, method: str) -> pd.DataFrame:
        """Rows by step (by γ for CFG) with the hyperparameters of the row in Table 1."""
        rows = self.summary[self.summary["method"] == method]
        rows = rows[rows["hyperparameters"] == self.best.loc[method, "hyperparameters"]]
        return rows.sort_values(["step", "guidance"])


# ------------------------------------------------------------------ kinds of chart


def _metrics_vs_step(view: _Model) -> tuple[list[Panel], int]:
    tuned = [name for name in METHODS if name not in ("base", "cfg")]
    return [_step_panel(view, metric, tuned) for metric in ("fd", "is", "precision", "recall")], 2


def _dsm_ablation(view: _Model) -> tuple[list[Panel], int]:
    return [_step_panel(view, metric, ("mclr", "mclr+dsm")) for metric in ("fd", "is")], 2


def _fd_is(view: _Model) -> tuple[list[Panel], int]:
    return [_trade_off(view, "fd", "is")], 1


def _precision_recall(view: _Model) -> tuple[list[Panel], int]:
    return [_trade_off(view, "recall", "precision")], 1


PANELS = {
    "metrics-vs-step": _metrics_vs_step,
    "fd-is": _fd_is,
    "precision-recall": _precision_recall,
    "dsm-ablation": _dsm_ablation,
}


# ------------------------------------------------------------------ panels


def _step_panel(view: _Model, metric: str, methods: Iterable[str]) -> Panel:
    """One metric against fine-tuning steps; every line starts at the base model, step 0."""
    lines = [
        _line(label, method, _from_base(view, rows), "step", metric, variant)
        for method in methods
        for variant, (label, rows) in enumerate(view.variants(method))
    ]
    start = _from_base(view, view.summary.iloc[:0])
    base = _line(f"Start ({view.label})", "base", start, "step", metric, notes={0: "Start"})
    lines.append(base)
    log = metric == "fd" and _wide(value for line in lines for value in line.y)
    return Panel("Fine-tuning step", LABELS[metric], tuple(lines), banded=True, log_y=log)


def _trade_off(view: _Model, x: str, y: str) -> Panel:
    """Two metrics against each other; every path starts at the base model."""
    lines = []
    for name, method in METHODS.items():
        if name != "base" and method.in_table and name in view.best.index:
            rows = view.chosen(name)
            path = _from_base(view, rows)
            notes = _gamma_notes(path) if name == "cfg" else {len(path) - 1: "End"}
            label = method.label(view.label)
            lines.append(_line(label, name, path, x, y, notes=notes, ring=_lowest(path)))
    start = _from_base(view, view.summary.iloc[:0])
    lines.append(_line(f"Start ({view.label})", "base", start, x, y, notes={0: "Start"}))
    log = x == "fd" and _wide(value for line in lines for value in line.x)
    return Panel(LABELS[x], LABELS[y], tuple(lines), log_x=log)


def _from_base(view: _Model, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` after the base model, which counts as step 0 and γ = 0."""
    start = view.base.to_frame().T.astype(view.summary.dtypes.to_dict())
    return pd.concat([start.assign(step=0), rows], ignore_index=True)


def _lowest(path: pd.DataFrame) -> int | None:
    """Position of the lowest FD behind the start; None if nothing finite was measured."""
    measured = path["fd"][1:].dropna()
    return None if measured.empty else 1 + path["fd"].tolist()[1:].index(measured.min())


def _gamma_notes(path: pd.DataFrame) -> dict[int, str]:
    """γ at the first, the last and the best-FD guidance scale."""
    places = {1, len(path) - 1, _lowest(path) or 1}
    return {i: f"γ={path['guidance'][i]:g}" for i in sorted(places)}


def _wide(values: Iterable[float]) -> bool:
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > LOG_RANGE * min(finite)


def _line(
    label: str,
    method: str,
    rows: pd.DataFrame,
    x: str,
    y: str,
    variant: int = 0,
    notes: dict[int, str] | None = None,
    ring: int | None = None,
) -> Series:
    spread = [None if math.isnan(value) else value for value in rows[f"{y}_std"].tolist()]
    return Series(
        label,
        method,
        tuple(rows[x].tolist()),
        tuple(rows[y].tolist()),
        tuple(spread),
        tuple(_hover(label, row) for row in rows.to_dict("records")),
        variant,
        notes or {},
        ring,
    )


def _hover(label: str, row: Mapping[Hashable, Any]) -> str:
    where = f"γ = {row['guidance']:g}" if row["guidance"] else f"step {row['step']:g}"
    lines = [f"<b>{label}</b>, {where}"]
    for metric, digits in DIGITS.items():
        text = f"{LABELS[metric][:-2]} {row[metric]:.{digits}f}"
        spread = row[f"{metric}_std"]
        lines.append(text if math.isnan(spread) else f"{text} ± {spread:.{digits}f}")
    return "<br>".join(lines)
