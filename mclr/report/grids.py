"""Images along growing guidance and along MCLR training, from one noise (Figures 2 and 8-19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mclr.config.tier import Tier
from mclr.planning.points import Point
from mclr.report.grid_images import MAX_CLASSES, Pixels, spread_out, stored_images
from mclr.report.names import GRID_FORMATS, KINDS, kinds_of, stem
from mclr.report.progress import guided_and_tuned
from mclr.report.static import STYLE, save
from mclr.report.summary import check_metrics

MAX_COLUMNS = 12  # guidance scales or checkpoints of a panel
MAX_WIDTH = 22  # columns of all panels side by side
CELL_INCHES = 0.42
CELL_PIXELS = 96  # sides are enlarged to at least this, by a whole factor
GAP = 4  # white pixels between enlarged images

Columns = list[tuple[str, Point]]


def write_grids(
    metrics: pd.DataFrame,
    tier: Tier,
    grids: Mapping[str, Path],
    class_names: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Write ``<model>-progressive`` (.pdf, .png) for every model that MCLR fine-tunes.

    Args:
        grids: PNG of each point, by ``Point.path``: a row per noise (``evaluation.grid_rows``),
            a column per class, square images without gaps, grey or RGB.
        class_names: name of each class, in column order.

    Raises:
        UserError: a grid is missing or has another size; the metrics do not fit the tier.
    """
    check_metrics(metrics, tier)
    paths = []
    for model in tier.models:
        if "progressive" in kinds_of(tier, model):
            figure = progressive_grid(metrics, tier, model, grids, class_names)
            files = [folder / f"{stem(model, 'progressive')}.{end}" for end in GRID_FORMATS]
            with matplotlib.rc_context(STYLE):
                paths += [save(figure, path) for path in files]
    return paths


def progressive_grid(
    metrics: pd.DataFrame,
    tier: Tier,
    model: str,
    grids: Mapping[str, Path],
    class_names: Sequence[str],
) -> Figure:
    """CFG with growing γ above MCLR along its checkpoints; arguments as ``write_grids``.

    Columns are γ or steps, rows are classes, and each panel has its own initial noise.
    """
    top, bottom = progressive_columns(metrics, tier, model)
    width = max(len(top), len(bottom))
    noises = range(min(tier.evaluation.grid_rows, max(1, MAX_WIDTH // width)))
    labels = spread_out(len(class_names), MAX_CLASSES)
    images = {
        point.path: stored_images(grids, point, tier.evaluation.grid_rows, len(class_names))
        for _, point in [*top, *bottom]
    }
    cell = 1.15 * CELL_INCHES
    size = (max(6.4, cell * width * len(noises) + 1.2), 2 * (cell * len(labels) + 0.75) + 0.4)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(f"{tier.models[model].label}: {KINDS['progressive'].title}", fontsize=11)
        axes = figure.subplots(2, len(noises), squeeze=False)
        for line, columns, title in (
            (axes[0], top, "CFG: guidance scale γ"),
            (axes[1], bottom, "MCLR: fine-tuning step"),
        ):
            for noise in noises:
                cells = [[images[p.path][noise, c] for _, p in columns] for c in labels]
                ticks = [text for text, _ in columns]
                names = [class_names[c] for c in labels] if noise == 0 else []
                show_mosaic(line[noise], mosaic(cells, width), len(labels), ticks, names)
                line[noise].set_ylabel("" if noise else "class")
                line[noise].set_title(f"{title} · noise {noise + 1}", fontsize=9)
    return figure


def progressive_columns(metrics: pd.DataFrame, tier: Tier, model: str) -> tuple[Columns, Columns]:
    """(label, point) of each column: the base model by γ, then the chosen MCLR run by step.

    The points are those of ``guided_and_tuned``; both blocks begin with the base model without
    guidance.
    """
    base, tuned = guided_and_tuned(metrics, tier, model)
    cfg = [(f"{point.guidance:g}", point) for point in base]
    mclr = [("0", cfg[0][1]), *((str(point.step), point) for point in tuned)]
    return _thin(cfg), _thin(mclr)


def _thin(columns: Columns) -> Columns:
    return [columns[i] for i in spread_out(len(columns), MAX_COLUMNS)]


def mosaic(cells: Sequence[Sequence[Pixels]], width: int) -> Pixels:
    """Images side by side, enlarged by a whole factor without smoothing, white between them.

    cells: rows of equally many images (side, side, 3). Each row is filled up with white to
    ``width`` images, so that mosaics of one figure have one scale. Returns (H, W, 3).
    """
    side = cells[0][0].shape[0]
    factor = max(1, -(-CELL_PIXELS // side))
    pitch = side * factor + GAP
    canvas = np.full((pitch * len(cells) - GAP, pitch * width - GAP, 3), 255, dtype=np.uint8)
    for i, row in enumerate(cells):
        for j, image in enumerate(row):
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            y, x = i * pitch, j * pitch
            canvas[y : y + side * factor, x : x + side * factor] = large
    return canvas


def show_mosaic(
    axes: Axes,
    canvas: Pixels,
    height: int,
    columns: Sequence[str],
    rows: Sequence[str],
    points: float = 7.5,
) -> None:
    """Draw a mosaic ``height`` images high; labels of a size in points above and beside it."""
    pitch = (canvas.shape[0] + GAP) / height
    axes.imshow(canvas, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=points, top=True, labeltop=True, bottom=False)
    axes.tick_params(labelbottom=False)
    axes.set_xticks([(i + 0.5) * pitch - GAP / 2 for i in range(len(columns))], columns)
    axes.set_yticks([(i + 0.5) * pitch - GAP / 2 for i in range(len(rows))], rows)
