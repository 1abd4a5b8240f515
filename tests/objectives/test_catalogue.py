"""What the catalogue says: looks that every reader can tell apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mclr.objectives.catalogue import METHODS
from mclr.theory.lab.mixtures import Array

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
SHOWN = [m for m in METHODS.values() if m.in_table or m.if_final]
IMITATIONS = ("distill", "gft", "gft+dial", "mg")


def linear(colour: str) -> Array:
    """sRGB ``#rrggbb`` to linear RGB (3,)."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.asarray(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4))


def lab(rgb: Array) -> Array:
    """CIELAB (D65) of linear RGB."""
    x = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_a_table_differ_to_every_eye(vision: str) -> None:
    """Two just distinguishable colours are about 2.3 apart in CIELAB."""
    seen = {m.name: lab(VISION[vision] @ linear(m.colour)) for m in SHOWN}
    for one, other in combinations(seen, 2):
        least = 15 if {one, other} & set(IMITATIONS) else 9
        assert np.linalg.norm(seen[one] - seen[other]) > least, (one, other)


@pytest.mark.parametrize("method", SHOWN, ids=lambda method: method.name)
def test_colours_are_seen_on_white_and_on_black(method: object) -> None:
    luminance = float(XYZ[1] @ linear(method.colour))  # type: ignore[attr-defined]
    assert min(1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05) > 2.2


def test_every_trained_method_is_explained() -> None:
    for method in METHODS.values():
        if method.trained:
            assert method.title and method.source and method.meaning and method.equation
            assert method.note and all(method.note)
