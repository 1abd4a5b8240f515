"""Heat maps of how alike MCLR at each step and CFG at each scale change the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mclr.report.static import STYLE, save

TITLES = {"classes": "mean shift of each class", "images": "shift of each image"}


def write_heat_map(found: Mapping[str, Any], net: str, label: str, paths: Sequence[Path]) -> None:
    """Draw one model's entry of ``similarity.json`` with one feature net into ``paths``."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 1.6 + 0.32 * len(found["steps"])), layout="constrained")
        figure.suptitle(f"{label}: cosine between the shifts of MCLR and CFG", fontsize=11)
        for axes, (kind, title) in zip(figure.subplots(1, 2), TITLES.items(), strict=True):
            image = _show(axes, found, found["nets"][net][kind])
            axes.set_title(title, fontsize=9)
        figure.colorbar(image, ax=figure.axes, shrink=0.8, label="cosine")
        for path in paths:
            save(figure, path)


def _show(axes: Axes, found: Mapping[str, Any], values: list[list[float]]) -> Any:
    cells = np.array(values)
    image = axes.imshow(cells, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(found["scales"])), [f"{g:g}" for g in found["scales"]])
    axes.set_yticks(range(len(found["steps"])), [str(step) for step in found["steps"]])
    axes.set_xlabel("CFG: guidance scale γ")
    axes.set_ylabel("MCLR: fine-tuning step")
    for (i, j), value in np.ndenumerate(cells):
        ink = "white" if abs(value) > 0.6 else "black"
        axes.text(j, i, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=6.5,
                  color=ink)  # fmt: skip
    return image
