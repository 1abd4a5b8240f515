"""The points' stored images, and which of their classes are shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclr.errors import UserError
from mclr.planning.points import Point
from mclr.report.embedded import read_image

Pixels = NDArray[np.uint8]

MAX_CLASSES = 10  # rows of a panel or a sheet


def spread_out(n: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0..n−1, evenly spaced, the first and the last included."""
    if n <= most:
        return list(range(n))
    return [round(i * (n - 1) / (most - 1)) for i in range(most)]


def stored_images(grids: Mapping[str, Path], point: Point, rows: int, classes: int) -> Pixels:
    """Stored images of one point: (rows, classes, side, side, 3)."""
    path = grids.get(point.path)
    if path is None or not path.is_file():
        raise UserError(f"{path or point.path}: image grid is missing; run `snakemake` to make it")
    pixels = np.asarray(read_image(path).convert("RGB"))
    height, width = pixels.shape[:2]
    if height % rows or width % classes or height // rows != width // classes:
        raise UserError(
            f"{path}: {width}×{height} pixels are not {rows} rows of {classes} square images; "
            "delete it and run `snakemake` again"
        )
    side = height // rows
    return pixels.reshape(rows, side, classes, side, 3).swapaxes(1, 2)
