"""Summarised rows as the lines of a chart."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mclr.objectives import untrained
from mclr.objectives.method import Method
from mclr.report.chart import Series
from mclr.report.methods import describe
from mclr.report.summary import REAL
from mclr.report.view import ModelView

LABELS = {
    "fd": "FD ↓",
    "is": "Inception Score ↑",
    "precision": "Precision ↑",
    "recall": "Recall ↑",
    "accuracy": "Class accuracy ↑",
    "step": "Fine-tuning step",
    "guidance": "Guidance scale γ",
    "dial": "Dial t: base 0, MCLR 1",
    "nfe": "Network evaluations per image (NFE)",
    "images": "Images drawn in all",
}
DIGITS = {"fd": 2, "is": 2, "precision": 3, "recall": 3}


@dataclass(frozen=True)
class Measured(Series):
    """A line of evaluated points; ``keys`` are their ``point_key``, to find their images by."""

    keys: tuple[str, ...] = ()


def line(
    label: str,
    method: Method,
    rows: pd.DataFrame,
    x: str,
    y: str,
    *,
    notes: dict[int, str] | None = None,
    ring: int | None = None,
    colour: str = "",
) -> Series:
    """The rows in their order as one line of y against x."""
    spread = [None if math.isnan(value) else value for value in rows[f"{y}_std"].tolist()]
    return Measured(
        label,
        method,
        tuple(rows[x].tolist()),
        tuple(rows[y].tolist()),
        tuple(spread),
        tuple(_hover(label, row) for row in rows.to_dict("records")),
        notes or {},
        ring,
        colour,
        keys=tuple(point_key(row) for row in rows.to_dict("records")),
    )


def point_key(row: Mapping[Hashable, Any]) -> str:
    """A short name for what a summarised row is a point of, whatever the chart that shows it.

    Empty for real images; the base model has one, on whichever path it stands.
    """
    if row["method"] == REAL:
        return ""
    identity = [row["model"], row["method"]]
    if row["method"] != "base":
        numbers = (float(row[name]) for name in ("guidance", "step", "dial"))
        identity += [row["hyperparameters"], *numbers]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]


def start(view: ModelView, x: str, y: str) -> Series:
    """The base model as a single point."""
    rows = view.from_base(view.summary.iloc[:0])
    return line(f"Start ({view.label})", untrained.BASE, rows, x, y, notes={0: "Start"})


def floor(view: ModelView, lines: Iterable[Series], y: str) -> list[Series]:
    """The level that real images reach, across the range of the other lines; none if unknown."""
    ends = [value for series in lines for value in series.x]
    reached = view.real[y].dropna()
    if reached.empty or not ends:
        return []
    value, method = float(reached.iloc[0]), untrained.REAL
    return [level(method.suffix, method, value, (min(ends), max(ends)), y)]


def level(label: str, method: Method, value: float, ends: tuple[float, float], y: str) -> Series:
    """A value that does not depend on x, from one end to the other."""
    words = f"<b>{label}</b><br>{LABELS[y][:-2]} {value:.3g}"
    return Series(label, method, ends, (value, value), (None, None), (words, words), guide=True)


def real_point(view: ModelView, x: str, y: str) -> list[Series]:
    """Real images as a single point of a trade-off; none if they were not measured."""
    return [] if view.real.empty else [line(untrained.REAL.suffix, untrained.REAL, view.real, x, y)]


def ring_of(view: ModelView, method: str, path: pd.DataFrame) -> int | None:
    """Position of the row of Table 1 in a path; None if nothing finite was measured."""
    best = view.best.loc[method]
    if pd.isna(best["fd"]):
        return None
    same = (path["step"] == best["step"]) & (path["guidance"] == best["guidance"])
    return int(same.to_numpy().argmax())


def gamma_notes(path: pd.DataFrame, ring: int | None) -> dict[int, str]:
    """γ at the first and the last guidance scale, and at the ringed one."""
    places = {1, len(path) - 1, ring or 1}
    return {i: f"γ={path['guidance'][i]:g}" for i in sorted(places)}


def _hover(label: str, row: Mapping[Hashable, Any]) -> str:
    where = f"γ = {row['guidance']:g}" if row["guidance"] else f"step {row['step']:g}"
    if row["dial"] not in (0, 1):
        where = f"t = {row['dial']:g}"
    if row["method"] == "base":
        where = "base model"
    words = [f"<b>{label}</b>" + ("" if row["method"] == REAL else f", {where}")]
    for metric, digits in DIGITS.items():
        text = f"{LABELS[metric][:-2]} {row[metric]:.{digits}f}"
        spread = row[f"{metric}_std"]
        words.append(text if math.isnan(spread) else f"{text} ± {spread:.{digits}f}")
    settings = describe(str(row["hyperparameters"]))
    words += [settings] if settings else []
    return "<br>".join(words)
