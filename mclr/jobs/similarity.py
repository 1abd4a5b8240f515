"""The job that compares what MCLR and CFG do to the same images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from mclr.config.tier import Tier
from mclr.files import read_table, write_json
from mclr.metrics.features import Features, read_features
from mclr.metrics.similarity import similarity as compare
from mclr.planning.points import Point
from mclr.report.heatmap import write_heat_map
from mclr.report.names import GRID_FORMATS, stem
from mclr.report.progress import guided_and_tuned


def similarity(tier: Tier, metrics: Path, samples: Path, output: Path, figures: Path) -> None:
    """Write the similarity of every MCLR step and CFG scale, and a heat map per model.

    Args:
        samples: folder that holds the points' feature shards.
        figures: folder for ``names.similarity_files``.
    """
    rows, models = read_table(metrics), {}
    tuned = {run.model for run in tier.tuned.values() if run.objective.method == "mclr"}
    for name, model in tier.models.items():
        if name in tuned:
            models[name] = _of_model(rows, tier, name, samples)
            paths = [figures / f"{stem(name, 'similarity')}.{end}" for end in GRID_FORMATS]
            write_heat_map(models[name], tier.report.nets[0], model.label, paths)
    write_json(output, {"models": models})


def _of_model(rows: pd.DataFrame, tier: Tier, model: str, samples: Path) -> dict[str, Any]:
    (start, *guided), tuned = guided_and_tuned(rows, tier, model)

    def read(point: Point, net: str) -> Features:
        shards = range(tier.evaluation.shards)
        folder = samples / point.path
        return read_features([folder / f"shard-{shard:03d}.parquet" for shard in shards], net)

    def features(point: Point, net: str) -> Tensor:
        return read(point, net).features.double()

    nets: dict[str, dict[str, list[list[float]]]] = {}
    for net in tier.features:
        base = read(start, net)
        labels, origin = base.labels, base.features.double()
        scales = [features(point, net) for point in guided]
        found = [
            [asdict(compare(origin, scale, features(point, net), labels)) for scale in scales]
            for point in tuned
        ]
        nets[net] = {
            key: [[round(cell[key], 4) for cell in line] for line in found] for key in found[0][0]
        }
    return {
        "run_id": tuned[0].run.run_id,
        "seed": start.seed,
        "n_samples": tier.evaluation.n_samples,
        "steps": [point.step for point in tuned],
        "scales": [point.guidance for point in guided],
        "nets": nets,
    }
