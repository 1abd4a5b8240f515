"""The job that measures: every point of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mclr.device import CPU
from mclr.errors import UserError
from mclr.files import read_json, write_json
from mclr.metrics.features import Features, packages_of, read_features
from mclr.planning.points import STUDY
from mclr.planning.specs import EvaluateSpec, PlannedPoint
from mclr.provenance import other_packages


def evaluate(
    spec: EvaluateSpec,
    manifest_file: Path,
    feature_nets: dict[str, Path],
    features: Path,
    output: Path,
    selection: Path | None = None,
    device: torch.device = CPU,
) -> None:
    """FD, IS, precision and recall of every point of an evaluation.

    A point that was sampled or measured with other packages than the lock file's says so.

    Args:
        selection: the selected point of the experiment, for points whose step, hyperparameters
            or guidance are those that were selected.
        feature_nets: folder of each feature net (weights and reference features).
        features: folder that holds the points' feature shards.
    """
    from mclr.metrics.measure import Measure

    n_samples = spec.evaluation.n_samples
    measure = Measure(spec.evaluation, manifest_file, feature_nets, device)
    shared = measure.protocol(n_samples)
    selected = read_json(selection, "step", "hyperparameters", "guidance") if selection else {}
    rows = []
    for planned in spec.points:
        point = _selected(planned, selected)
        folder = features / point["path"]
        shards = [folder / f"shard-{shard:03d}.parquet" for shard in range(spec.shards)]
        row = {"tier": spec.tier, **point, "n_samples": n_samples}
        generated = {
            name: _complete(read_features(shards, name), n_samples, point) for name in feature_nets
        }
        row |= {"protocol": shared["id"]} | measure.columns(generated)
        if packages := ({other_packages()} | packages_of(shards)) - {""}:
            row["packages"] = "; ".join(sorted(packages))
        rows.append(row)
    write_json(output, {"protocol": shared, "rows": rows}, noted=True)


def _selected(planned: PlannedPoint, selected: dict[str, Any]) -> dict[str, Any]:
    """The columns of a point, with what the selection decides filled in."""
    point = planned.model_dump()
    if planned.step is None:
        point |= {key: selected[key] for key in ("step", "hyperparameters")}
    if planned.guidance is None:
        point["guidance"] = selected["guidance"]
    if planned.stage == STUDY:
        point["run_id"] = selected["run_id"]
    return point


def _complete(features: Features, n_samples: int, point: dict[str, Any]) -> Features:
    first = point["seed"] * n_samples
    if features.seeds.tolist() != list(range(first, first + n_samples)):
        raise UserError(
            f"features of {point['path']}: {len(features.seeds)} images, expected the "
            f"{n_samples} seeds from {first}; delete the folder and run `snakemake` again"
        )
    return features
