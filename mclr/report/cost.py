"""What a tier cost: time per kind of job from Snakemake's benchmark files, and NFE per image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mclr.config.tier import Tier
from mclr.planning.plan import Plan

STEPS = {
    "feature-net": "train feature nets",
    "tokenizer": "train tokenizers and autoencoders",
    "encode": "encode the training images",
    "base": "train base models",
    "negatives": "sample DDO’s negatives",
    "finetune": "fine-tune",
    "sample": "sample images, compute features",
    "evaluate": "measure",
    "separation": "class separation",
    "figures": "draw figures",
}
"""Folders of benchmark files in the order of the pipeline, in words."""


@dataclass(frozen=True)
class Cost:
    """All jobs of one kind: seconds of their wall clocks, and of the cores they kept busy."""

    step: str
    jobs: int
    wall: float
    cores: float


def costs(folder: Path, tier: Tier) -> list[Cost]:
    """A line per kind of job, in the order of the pipeline; none without benchmark files.

    Files of runs that are no longer planned are passed over, and so is the report's own, which
    would change the report each time it is written.

    Args:
        folder: ``results/<tier>/benchmarks``.
    """
    plan = Plan(tier)
    points = {point.path for points in plan.evaluations.values() for point in points}
    planned = {"finetune": {*plan.runs}, "sample": points, "evaluate": {*plan.evaluations}}
    times: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        rule, *rest = path.relative_to(folder).with_suffix("").parts
        name = "/".join(rest[:-1] if rule == "sample" else rest)
        if rule != "report" and name in planned.get(rule, {name}):
            times.setdefault(rule, []).append(_times(path))
    order = [*STEPS, *sorted(set(times) - set(STEPS))]
    return [_total(STEPS.get(rule, rule), times[rule]) for rule in order if rule in times]


def _times(path: Path) -> tuple[float, float]:
    """Wall seconds and core seconds of one job; too short a job has no measured core time."""
    with path.open(encoding="utf-8", newline="") as stream:
        row = next(csv.DictReader(stream, delimiter="\t"))
    wall = float(row["s"])
    try:
        return wall, float(row.get("cpu_time") or "-")
    except ValueError:
        return wall, wall


def _total(step: str, times: Sequence[tuple[float, float]]) -> Cost:
    wall, cores = (sum(column) for column in zip(*times, strict=True))
    return Cost(step, len(times), wall, cores)


def total(lines: Sequence[Cost]) -> Cost:
    """The sum of all lines."""
    return Cost(
        "all",
        sum(line.jobs for line in lines),
        sum(line.wall for line in lines),
        sum(line.cores for line in lines),
    )


def duration(seconds: float) -> str:
    """Words such as ``45 s``, ``3.2 min``, ``5.4 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def evaluations_per_image(metrics: pd.DataFrame, tier: Tier) -> list[tuple[str, str, str]]:
    """(model, NFE without guidance, NFE with CFG) of each model; a dash without CFG."""
    found = []
    for name, model in tier.models.items():
        own = metrics[metrics["model"] == name]
        numbers = [own.loc[own["method"] == method, "nfe"] for method in ("base", "cfg")]
        words = [f"{values.iloc[0]:g}" if len(values) else "–" for values in numbers]
        found.append((model.label, words[0], words[1]))
    return found
