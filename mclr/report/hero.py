"""The first picture: one noise drawn by the base model, by MCLR and by CFG, a class per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from mclr.config.tier import Tier
from mclr.planning.points import GRID, Point
from mclr.report.grid_images import spread_out, stored_images
from mclr.report.grids import mosaic, show_mosaic
from mclr.report.progress import guided_and_tuned
from mclr.report.static import STYLE, save
from mclr.report.summary import table_rows

NOISES = 3  # the first of the stored ones: none is picked
CLASSES = 6  # evenly spread over all
CELL_INCHES = 0.82
LABELS = 10.5  # points


def compared(metrics: pd.DataFrame, tier: Tier, model: str) -> list[tuple[str, Point]]:
    """(name, point) of the base model, of MCLR and, where it was run, of CFG: rows of Table 1.

    Raises:
        UserError: as ``guided_and_tuned``.
    """
    guided, tuned = guided_and_tuned(metrics, tier, model)
    net = tier.report.features
    best = table_rows(metrics, net, net, GRID)
    best = best[best["model"] == model].set_index("method")
    found = [("Base", guided[0])]
    found += [("MCLR", point) for point in tuned if point.step == best.loc["mclr", "step"]]
    if "cfg" in best.index:
        scale = best.loc["cfg", "guidance"]
        found += [("CFG", point) for point in guided if point.guidance == scale]
    return found


def write_hero(
    metrics: pd.DataFrame,
    tier: Tier,
    model: str,
    grids: Mapping[str, Path],
    class_names: Sequence[str],
    path: Path,
) -> Path:
    """Write the picture (``.png`` or ``.pdf``) of one model; arguments as ``write_grids``."""
    points, rows = compared(metrics, tier, model), tier.evaluation.grid_rows
    images = [stored_images(grids, point, rows, len(class_names)) for _, point in points]
    labels = spread_out(len(class_names), CLASSES)
    names = [class_names[label] for label in labels]
    noises = min(rows, NOISES)
    with matplotlib.rc_context(STYLE):
        size = (CELL_INCHES * len(points) * noises + 1.5, CELL_INCHES * len(labels) + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        for noise, axes in enumerate(figure.subplots(1, noises, squeeze=False)[0]):
            cells = [[of_point[noise, label] for of_point in images] for label in labels]
            columns = [name for name, _ in points]
            canvas = mosaic(cells, len(points))
            show_mosaic(axes, canvas, len(labels), columns, [] if noise else names, LABELS)
            axes.set_title(f"noise {noise + 1}", fontsize=10, color="#57606a")
        return save(figure, path)
