"""Images on the page: of every point the same noises and classes, each embedded once.

The grids of all points start from the same noises (``mclr.jobs.sampling``), whatever the method,
so that any two of them can be compared image by image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mclr.config.tier import Tier
from mclr.planning.plan import Plan
from mclr.planning.points import FINAL, GRID, STUDY, Point, dial_of, is_average
from mclr.report.embedded import image_uri
from mclr.report.grid_images import MAX_CLASSES, Pixels, spread_out, stored_images
from mclr.report.lines import point_key
from mclr.report.summary import REAL, complete

MAX_NOISES = 3  # columns of a sheet; its rows are classes
MAX_SIDE = 64  # pixels; larger images are shrunk
LOSSLESS_SIDE = 32  # pixels; up to here a lossless file is small enough
QUALITY = 85  # of the others, of 100


@dataclass(frozen=True)
class Gallery:
    """Sheets of images by ``point_key``, as data URIs; ``rows`` are the classes they show.

    ``noises`` is the number of columns, ``pixelated`` whether pixels are large enough to be seen.
    """

    sheets: Mapping[str, str]
    rows: tuple[str, ...]
    noises: int
    pixelated: bool


EMPTY = Gallery({}, (), 0, False)


def gallery(
    metrics: pd.DataFrame,
    tier: Tier,
    grids: Mapping[str, Path],
    class_names: Sequence[str],
    wanted: Iterable[str],
) -> Gallery:
    """The sheets of the points whose key is in ``wanted``; others have none.

    Args:
        grids: as ``write_grids``; empty: a page without images.

    Raises:
        UserError: a grid is missing or has another size.
    """
    if not grids:
        return EMPTY
    points, sheets, sides = points_by_key(metrics, tier), {}, set()
    labels = spread_out(len(class_names), MAX_CLASSES)
    rows, noises = tier.evaluation.grid_rows, min(tier.evaluation.grid_rows, MAX_NOISES)
    for key in sorted(set(wanted) & set(points)):
        images = stored_images(grids, points[key], rows, len(class_names))
        sheets[key] = data_uri(images[:noises, labels])
        sides.add(images.shape[2])
    names = tuple(class_names[label] for label in labels)
    return Gallery(sheets, names, noises, max(sides, default=0) <= LOSSLESS_SIDE)


def points_by_key(metrics: pd.DataFrame, tier: Tier) -> dict[str, Point]:
    """The point whose images stand for a row of the summary: that of its lowest seed."""
    plan = Plan(tier)
    every = [point for points in plan.evaluations.values() for point in points]
    grid = {
        (p.run.run_id, p.step, p.guidance, p.seed, p.averaged, p.run.value): p
        for p in every
        if p.stage == GRID
    }
    # A study samples the run that was selected, which its point cannot name.
    study = {(p.run.experiment, p.method, p.guidance, p.dial): p for p in every if p.stage == STUDY}
    rows = complete(metrics)
    rows = rows[(rows["stage"] != FINAL) & (rows["method"] != REAL)]
    found: dict[str, Point] = {}
    for row in rows.sort_values(["seed", "run_id"], kind="stable").to_dict("records"):
        run = plan.runs.get(row["run_id"])
        if run is None:
            continue
        if row["stage"] == STUDY:
            how = (run.experiment, row["method"], row["guidance"], row["dial"])
            point = study.get(how)
        else:
            settings = str(row["hyperparameters"])
            weights = is_average(settings), dial_of(settings)
            where = run.run_id, row["step"], row["guidance"], row["seed"]
            point = grid.get((*where, *weights))
        if point is not None:
            found.setdefault(point_key(row), point)
    return found


def data_uri(images: Pixels) -> str:
    """One WebP of images (noises, classes, side, side, 3): a row per class, gaps transparent."""
    noises, classes, side = images.shape[:3]
    factor = -(-side // MAX_SIDE)
    small = _shrunk(images, factor)
    size = small.shape[2]
    gap = max(1, size // 16)
    pitch = size + gap
    canvas = np.zeros((classes * pitch - gap, noises * pitch - gap, 4), dtype=np.uint8)
    for noise in range(noises):
        for row in range(classes):
            y, x = row * pitch, noise * pitch
            canvas[y : y + size, x : x + size, :3] = small[noise, row]
            canvas[y : y + size, x : x + size, 3] = 255
    lossless = size <= LOSSLESS_SIDE
    return image_uri(Image.fromarray(canvas), lossless, 100 if lossless else QUALITY)


def _shrunk(images: Pixels, factor: int) -> Pixels:
    """Images with each block of ``factor``² pixels averaged; what is left at the rim is cut off."""
    if factor == 1:
        return images
    size = images.shape[2] // factor
    cut = images[:, :, : size * factor, : size * factor].astype(np.float64)
    blocks = cut.reshape(*cut.shape[:2], size, factor, size, factor, 3)
    averaged: NDArray[np.float64] = blocks.mean(axis=(3, 5))
    return averaged.round().astype(np.uint8)
