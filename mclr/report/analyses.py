"""Lines of the report page from ``similarity.json`` and the models' separation files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mclr.config.tier import Tier

SETS = {
    "real": "Real images",
    "base": "Base model",
    "cfg": "CFG, γ of Table 1",
    "cfg-highest": "CFG, highest γ",
    "mclr": "MCLR",
}


@dataclass(frozen=True)
class Alike:
    """Where one model's MCLR and CFG are most alike, with one feature net."""

    model: str
    net: str
    classes: str
    where: str
    images: str
    control: str


def similarity_rows(content: Mapping[str, Any], tier: Tier) -> list[Alike]:
    """A line per model and feature net; none if nothing was compared."""
    found = []
    for model, entry in content.get("models", {}).items():
        for net, values in entry["nets"].items():
            classes = np.array(values["classes"])
            i, j = np.unravel_index(int(classes.argmax()), classes.shape)
            where = f"step {entry['steps'][i]}, γ = {entry['scales'][j]:g}"
            images, control = (np.array(values[key])[i, j] for key in ("images", "control"))
            found.append(
                Alike(
                    tier.models[model].label,
                    net,
                    f"{classes[i, j]:.2f}",
                    where,
                    f"{images:.2f}",
                    f"{control:.2f}",
                )
            )
    return found


def separation_rows(content: Mapping[str, Any], tier: Tier) -> list[tuple[str, str, list[str]]]:
    """(model, set of images, columns) for each; ``content`` is each model's file, by its name."""
    return [
        (
            tier.models[model].label,
            SETS[name] + (f" = {row['guidance']:g}" if row["guidance"] else ""),
            [
                f"{row['mean']:.3g} ± {row['error']:.2g}",
                f"{100 * row['top']:.1f} %",
                f"{100 * row['black']:.1f} %",
                f"{100 * row['white']:.2f} %",
                f"{row['contrast']:.3f}",
                f"{row['saturation']:.3f}",
            ],
        )
        for model, entry in content.items()
        for name, row in ((name, entry["images"].get(name)) for name in SETS)
        if row
    ]
