"""Image grids whose every image is known: shared by the fixtures and the tests of grids."""

from __future__ import annotations

CLASSES, SIDE, GRID_ROWS = 10, 8, 2


def level(point: int, noise: int, label: int) -> int:
    """Grey level of the image of one point, noise and class."""
    return (point * 20 + noise * 7 + label) % 256
