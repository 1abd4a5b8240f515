"""The labelled picture: every image in its place, its pixels as they are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mclr.inference.grid import labelled_grid


def picture(columns: int, rows: list[str], side: int = 8) -> np.ndarray:
    levels = [20 + 10 * i for i in range(len(rows) * columns)]
    images = [Image.new("L", (side, side), level) for level in levels]
    labels = [str(j) for j in range(columns)]
    return np.array(labelled_grid(images, rows, labels, "seed"))


def test_images_are_in_rows_and_columns() -> None:
    found = picture(3, ["a", "b"])
    for row in range(2):
        for column in range(3):
            level = 20 + 10 * (3 * row + column)
            y, x = np.nonzero((found == level).all(axis=2))
            inside = (x >= found.shape[1] - (3 - column) * 68) & (y >= 26 + row * 68)
            inside &= (x < found.shape[1] - (3 - column) * 68 + 64) & (y < 26 + row * 68 + 64)
            assert inside.sum() == 64 * 64


def test_large_images_stay_as_they_are_and_long_names_are_cut() -> None:
    found = picture(1, ["x" * 500], side=100)
    assert ((found == 20).all(axis=2)).sum() == 100 * 100
    assert found.shape[1] < 600
