"""The job that measures real images as if a model had made them: what a number means.

No model can be expected to be closer to the reference images than images of the same source are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mclr.data.load import Manifest, step_generator
from mclr.device import CPU
from mclr.errors import UserError
from mclr.files import write_json
from mclr.jobs.labels import check_scheme, proportional_counts
from mclr.metrics.features import Features, read_features
from mclr.planning.points import GRID
from mclr.planning.specs import FloorsSpec
from mclr.settings.features import LabelScheme

STREAM = 3  # of draws among the training images


def floors(
    spec: FloorsSpec,
    manifest_file: Path,
    feature_nets: dict[str, Path],
    output: Path,
    device: torch.device = CPU,
) -> None:
    """FD, IS, precision and recall of random training images, as rows of ``metrics.parquet``.

    n_samples of them, half and twice as many; twice only where a feature net has so many. Rows of
    n_samples images have the protocol of generated images, the others protocols of their own.

    Args:
        feature_nets: folder of each feature net (weights, reference and training features).

    Raises:
        UserError: fewer than n_samples training images; labels are to be uniform, and the classes
            of the data differ too much.
    """
    from mclr.metrics.measure import Measure

    evaluation, n = spec.evaluation, spec.evaluation.n_samples
    measure = Measure(evaluation, manifest_file, feature_nets, device)
    check_scheme(evaluation.labels, measure.manifest)
    real = {
        name: read_features([folder / "train.parquet"], name)
        for name, folder in feature_nets.items()
    }
    available = min(len(features.labels) for features in real.values())
    if n > available:
        raise UserError(
            f"evaluation.n_samples: {n} images, but of real training images there are features "
            f"of {available}; use at most as many"
        )
    rows, protocols = [], {}
    for count in sorted({max(2, n // 2), n, 2 * n}):
        if count > available:
            continue
        protocols[count] = measure.protocol(count)
        columns = measure.columns(
            {name: _some(f, count, evaluation.labels, measure.manifest) for name, f in real.items()}
        )
        about = _about(spec.tier, count) | {"protocol": protocols[count]["id"]}
        rows += [{"model": model} | about | columns for model in spec.models]
    others = [content for count, content in protocols.items() if count != n]
    found = {"protocol": protocols[n], "other_protocols": others, "rows": rows}
    write_json(output, found, noted=True)


def _about(tier: str, n_samples: int) -> dict[str, Any]:
    """The columns of a row that say where its images are from."""
    return {
        "tier": tier, "method": "real", "stage": GRID, "hyperparameters": {"n": n_samples},
        "run_id": "", "checkpoint": "", "path": "", "step": 0, "seed": 0, "guidance": 0.0,
        "dial": 1.0, "nfe": 0, "n_samples": n_samples,
    }  # fmt: skip


def _some(features: Features, n: int, labels: LabelScheme, manifest: Manifest) -> Features:
    """Random n of the images, of each class as many as the scheme says, where there are so many."""
    rows = torch.randperm(len(features.labels), generator=step_generator(0, STREAM))
    if labels == "balanced":
        rows = rows[_turns(features.labels[rows]).argsort(stable=True)]
    if labels == "proportional":
        each = torch.tensor(proportional_counts(manifest.class_counts["reference"], n))
        classes = features.labels[rows]
        places = (_turns(classes) + 0.5) / each[classes]  # below 1: as many as there are to be
        rows = rows[places.argsort(stable=True)]
    chosen = rows[:n]
    return Features(
        features.features[chosen],
        features.logits[chosen],
        features.labels[chosen],
        features.seeds[chosen],
    )


def _turns(labels: Tensor) -> Tensor:
    """How many of the same class come before each of the labels (N,)."""
    turns = torch.empty_like(labels)
    for label in labels.unique():
        same = labels == label
        turns[same] = torch.arange(int(same.sum()))
    return turns
