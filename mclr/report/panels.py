"""The panels of each kind of chart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from mclr.objectives import untrained
from mclr.report.chart import Panel, Series
from mclr.report.lines import LABELS, floor, gamma_notes, level, line, real_point, ring_of, start
from mclr.report.making import improving
from mclr.report.names import MEASURED, SWEEPS
from mclr.report.scale import LINEAR, LOG, Scale, of_metric, of_steps
from mclr.report.summary import METRICS, REAL
from mclr.report.view import ModelView

Panels = tuple[list[Panel], int]
"""The panels of one chart in reading order, and how many of them make a row."""

STUDIES = tuple(method.name for method in untrained.STUDIES)
DIAL = untrained.MCLR_DIAL
# Ordered values, dark to light: viridis, its yellow darkened to be legible on white.
SHADES = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#c7a500")


def metrics_vs_step(view: ModelView) -> Panels:
    """Every metric along training, a line per method."""
    return [_along_steps(view, metric) for metric in ("fd", "is", "precision", "recall")], 2


def sweep(kind: str) -> Callable[[ModelView], Panels]:
    """FD and IS along training, a line per value of one hyperparameter."""
    methods, keys = SWEEPS[kind]

    def draw(view: ModelView) -> Panels:
        along = [_swept(view, metric, methods, keys) for metric in ("fd", "is")]
        if keys != (MEASURED,):
            return along, 2
        return [*along, _swept(view, "is", methods, keys, x="fd")], 3

    return draw


def fd_is(view: ModelView) -> Panels:
    """FD against IS."""
    return [trade_off(view, "fd", "is", _compared(view))], 1


def precision_recall(view: ModelView) -> Panels:
    """Precision against recall."""
    return [trade_off(view, "recall", "precision", _compared(view))], 1


def class_accuracy(view: ModelView) -> Panels:
    """Accuracy of the feature net's classifier along training and along γ."""
    guided = view.from_base(view.chosen("cfg")) if view.has("cfg") else view.from_base(view.real)
    cfg = line(untrained.CFG.suffix, untrained.CFG, guided, "guidance", "accuracy")
    along = [cfg, start(view, "guidance", "accuracy")]
    along += floor(view, along, "accuracy")
    by_scale = _panel("guidance", "accuracy", along, banded=True)
    return [_along_steps(view, "accuracy"), by_scale], 2


def sampling(view: ModelView) -> Panels:
    """Trade-offs of the sampling studies."""
    shown = [name for name in ("cfg", "mclr", *STUDIES) if view.has(name)]
    return [trade_off(view, "fd", "is", shown), trade_off(view, "recall", "precision", shown)], 2


def dial(view: ModelView) -> Panels:
    """Metrics against t, and the dial's trade-offs beside CFG's."""
    path = view.from_base(view.studied(DIAL.name, along="dial"))
    path = view.from_best(path).sort_values("dial", ignore_index=True)
    label = f"{DIAL.suffix} (NFE {int(path['nfe'].iloc[-1])})"
    panels = []
    for metric in ("fd", "is"):
        lines = [line(label, DIAL, path, "dial", metric), start(view, "dial", metric)]
        lines += floor(view, lines, metric)
        panels.append(_panel("dial", metric, lines, banded=True))
    ends = {0: "", len(path) - 1: f"t={path['dial'].iloc[-1]:g}"}
    for x, y in (("fd", "is"), ("recall", "precision")):
        turned = line(label, DIAL, path, x, y, notes=ends)
        panels.append(_panel(x, y, [_guided(view, "cfg", x, y), turned, start(view, x, y)]))
    return panels, 2


def cost(view: ModelView) -> Panels:
    """FD and IS of each method against its network evaluations per image."""
    panels = []
    for metric in ("fd", "is"):
        lines = []
        for name, method in view.methods.items():
            rows = view.best.loc[[name]].reset_index() if name in view.best.index else None
            if name in (*STUDIES, DIAL.name) and view.has(name):
                rows = view.studied(name).nsmallest(1, "fd")
            if rows is not None and name != REAL:
                lines.append(line(method.label(view.label), method, rows, "nfe", metric))
        lines += floor(view, lines, metric)
        panels.append(_panel("nfe", metric, lines))
    return panels, 2


def equal_cost(view: ModelView) -> Panels:
    """FD of each method at the total cost of CFG, against the number of images drawn with it."""
    base = view.best["fd"]["base"]
    found = {
        name: improving(view.making.with_costs(view.chosen(name)), base)
        for name, method in view.methods.items()
        if method.trained and name in view.best.index
    }
    reached = [float(rows["images"].max()) for rows in found.values() if len(rows)]
    last = 2 * max(reached, default=1.0)
    lines = []
    for name, rows in found.items():
        if len(rows):
            stays = pd.concat([rows, rows.tail(1).assign(images=last)], ignore_index=True)
            lines.append(line(view.methods[name].suffix, view.methods[name], stays, "images", "fd"))
    first = min((min(series.x) for series in lines), default=last / 2) / 2
    for name in ("base", "cfg"):
        if name in view.best.index:
            method, value = view.methods[name], view.best["fd"][name]
            lines.append(level(method.label(view.label), method, value, (first, last), "fd"))
    return [_panel("images", "fd", lines)], 1


# ------------------------------------------------------------------ panels


def _along_steps(view: ModelView, metric: str) -> Panel:
    """One metric against fine-tuning steps; every line starts at the base model, step 0."""
    lines = [
        line(method.suffix, method, view.from_base(view.chosen(name)), "step", metric)
        for name, method in view.methods.items()
        if method.trained and name in view.best.index
    ]
    lines.append(start(view, "step", metric))
    return _panel("step", metric, [*lines, *floor(view, lines, metric)], banded=True)


def _swept(
    view: ModelView, metric: str, methods: Iterable[str], keys: tuple[str, ...], x: str = "step"
) -> Panel:
    found = view.swept(methods, keys)
    lines = [
        line(
            label,
            view.methods[name],
            view.from_base(rows),
            x,
            metric,
            colour=_shade(i, len(found)),
        )
        for i, (label, name, rows) in enumerate(found)
    ]
    lines.append(start(view, x, metric))
    if x != "step":
        return _panel(x, metric, lines)
    return _panel(x, metric, [*lines, *floor(view, lines, metric)], banded=True)


def _shade(i: int, n: int) -> str:
    return SHADES[round(i * (len(SHADES) - 1) / max(n - 1, 1))]


def _compared(view: ModelView) -> list[str]:
    """The methods of a trade-off: those of Table 1, and CFG on top of MCLR."""
    names = [name for name, method in view.methods.items() if method.in_table and name != "base"]
    return [name for name in [*names, "mclr+cfg"] if view.has(name)]


def trade_off(view: ModelView, x: str, y: str, methods: Iterable[str]) -> Panel:
    """Two metrics against each other; paths start at the base model, studies at MCLR's best.

    A path goes along training, of CFG along γ, of a network with a dial along that.
    """
    lines = []
    for name in methods:
        if name == "cfg" or name in STUDIES:
            lines.append(_guided(view, name, x, y))
            continue
        if view.methods[name].dial:
            lines.append(_turned(view, name, x, y))
            continue
        path = view.from_base(view.chosen(name))
        ring, end = ring_of(view, name, path), {len(path) - 1: "End"}
        method = view.methods[name]
        lines.append(line(method.suffix, method, path, x, y, notes=end, ring=ring))
    return _panel(x, y, [*lines, *real_point(view, x, y), start(view, x, y)])


def _turned(view: ModelView, name: str, x: str, y: str) -> Series:
    """The path of one checkpoint along the dial of its network, after the base model."""
    path = view.from_base(view.turned(name))
    ring = int((path["hyperparameters"] == view.best.loc[name, "hyperparameters"]).argmax())
    notes = {i: f"β={path['beta'][i]:g}" for i in sorted({1, ring, len(path) - 1})}
    method = view.methods[name]
    return line(method.suffix, method, path, x, y, notes=notes, ring=ring)


def _guided(view: ModelView, name: str, x: str, y: str) -> Series:
    """A path along γ: CFG's from the base model, a study's from the checkpoint it samples."""
    if name == "cfg":
        path = view.from_base(view.chosen(name))
        ring = ring_of(view, name, path)
        notes = gamma_notes(path, ring)
    else:
        rows = view.studied(name)
        of_base = rows["hyperparameters"].iloc[0] == "{}"
        path = view.from_base(rows) if of_base else view.from_best(rows)
        ring, notes = None, {len(path) - 1: f"γ={path['guidance'].iloc[-1]:g}"}
    method = view.methods[name]
    return line(method.suffix, method, path, x, y, notes=notes, ring=ring)


def _panel(x: str, y: str, lines: list[Series], banded: bool = False) -> Panel:
    return Panel(
        LABELS[x], LABELS[y], tuple(lines), banded, x=_scale(x, lines, 0), y=_scale(y, lines, 1)
    )


def _scale(name: str, lines: list[Series], axis: int) -> Scale:
    """The scale of one axis from the values on it (0: x, 1: y)."""
    values = [(s.method.name == REAL, v) for s in lines for v in (s.x, s.y)[axis]]
    made = [value for is_real, value in values if not is_real]
    if name == "step":
        return of_steps(made)
    if name == "images":
        return LOG
    if name not in METRICS:
        return LINEAR
    return of_metric(made, [v for is_real, v in values if is_real], log=name == "fd")


PANELS: dict[str, Callable[[ModelView], Panels]] = {
    "metrics-vs-step": metrics_vs_step,
    "fd-is": fd_is,
    "precision-recall": precision_recall,
    "class-accuracy": class_accuracy,
    "sampling": sampling,
    "dial": dial,
    "cost": cost,
    "equal-cost": equal_cost,
    **{kind: sweep(kind) for kind in SWEEPS},
}
