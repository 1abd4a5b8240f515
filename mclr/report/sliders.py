"""Sliders through guidance scales and MCLR steps, from the same noise (Figures 2 and 8-19)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from mclr.config.tier import Tier
from mclr.report.lines import DIGITS, LABELS, point_key, ring_of
from mclr.report.names import kinds_of
from mclr.report.view import ModelView


@dataclass(frozen=True)
class Stop:
    """One position: the point's key, what it is called, and what was measured there."""

    key: str
    name: str
    words: str


@dataclass(frozen=True)
class Track:
    """The positions of one slider from the base model on; ``start`` is the row of Table 1."""

    title: str
    control: str
    stops: tuple[Stop, ...]
    start: int

    @property
    def positions(self) -> list[dict[str, str]]:
        """The stops as the page's script reads them."""
        return [asdict(stop) for stop in self.stops]


@dataclass(frozen=True)
class Sliders:
    """The tracks of one model: the base model alone, then MCLR and, where it was run, CFG."""

    model: str
    label: str
    tracks: tuple[Track, ...]


def sliders(metrics: pd.DataFrame, tier: Tier) -> list[Sliders]:
    """Of every model that MCLR fine-tunes; the MCLR run is that of Table 1."""
    found = []
    for name, model in tier.models.items():
        if "progressive" in kinds_of(tier, name):
            view = ModelView(metrics, tier, name, tier.report.features)
            moving = [_track(view, method) for method in ("mclr", "cfg") if view.has(method)]
            still = Track("Base model", "", moving[0].stops[:1], 0)
            found.append(Sliders(name, model.label, (still, *moving)))
    return found


def _track(view: ModelView, method: str) -> Track:
    path = view.from_base(view.chosen(method))
    ring = ring_of(view, method, path)
    stops = tuple(
        _stop(method, row, ringed=i == ring) for i, row in enumerate(path.to_dict("records"))
    )
    titles = {
        "mclr": ("MCLR, without guidance", "Fine-tuning step"),
        "cfg": ("Base model with CFG", "Guidance scale γ"),
    }
    return Track(*titles[method], stops, ring or 0)


def _stop(method: str, row: Mapping[Hashable, Any], ringed: bool) -> Stop:
    name = f"γ = {row['guidance']:g}" if method == "cfg" else f"step {row['step']}"
    values = [f"{LABELS[m][:-2]} {row[m]:.{digits}f}" for m, digits in DIGITS.items()]
    words = ", ".join([*values, f"NFE {row['nfe']}"])
    base = row["method"] == "base"
    is_what = " (base model)" if base else " (row of Table 1)" if ringed else ""
    return Stop(point_key(row), name + is_what, words)
