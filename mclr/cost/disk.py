"""Disk and network of a tier, before compression: an upper bound, near for weights."""

from __future__ import annotations

import math

from mclr.config.models import Edm2Model
from mclr.cost.dag import contrasted, has_encoder, points_of
from mclr.cost.networks import dimensions
from mclr.cost.work import TRAINING_FEATURES, Workload
from mclr.data.raw import expected

FLOAT = 4  # bytes


def downloads(source: str) -> int:
    """Bytes that fetching a source transfers, by data/versions.csv; 0 for what a package holds."""
    row = expected(source)
    return 0 if row["url"].startswith("package:") else int(row["bytes"])


def disk_of(workload: Workload, gpus: int) -> dict[str, float]:
    """Bytes of each kind of file when all is done; ``state`` only while runs train."""
    return {
        "data": _data(workload),
        "checkpoints": _checkpoints(workload),
        "features": _features(workload),
        "grids": _grids(workload),
        "state": _state(workload, gpus),
    }


def _data(load: Workload) -> float:
    """Raw, prepared, encoded images, and samples of the base models."""
    tier, images = load.plan.tier, load.images
    sizes = {None, *(model.resolution for model in tier.models.values())}
    total = float(expected(tier.data.source)["bytes"])
    total += images.source.count * sum(images.pixels(size) for size in sizes)
    for name in tier.models:
        network = load.networks[name]
        is_latent = isinstance(network.model, Edm2Model)
        if has_encoder(load.plan, name):
            total += images.n_train * math.prod(network.shape) * (2 if is_latent else 4)
        if name in contrasted(load.plan):
            # Pixels and drawn latents are float32, tokens int64; of latents half the moments.
            values = math.prod(network.shape) // (2 if network.encoder.parameters else 1)
            size = values * FLOAT if is_latent else math.prod(network.shape) * 8
            total += size * load.plan.negatives_spec(name)["n_negatives"]
    return total


def _checkpoints(load: Workload) -> float:
    """Every checkpoint of every run, the best of each experiment once more, and encoders."""
    plan, total = load.plan, 0.0
    for run in plan.runs.values():
        total += max(1, len(run.checkpoints)) * load.networks[run.model].parameters
    for settings in plan.tier.runs.values():
        total += load.networks[settings.model].parameters
    return FLOAT * (total + sum(network.encoder.parameters for network in load.networks.values()))


def _row(load: Workload) -> float:
    """Features and logits of one image by all feature nets, its seed and label."""
    classes = load.images.source.classes
    nets = load.plan.tier.features.values()
    return FLOAT * sum(dimensions(settings) + classes for settings in nets) + 10


def _features(load: Workload) -> float:
    points, n = len(points_of(load.plan)), load.plan.tier.evaluation.n_samples
    real = load.images.n_reference + min(TRAINING_FEATURES, load.images.n_train)
    resolutions = len({resolution for _, resolution in load.plan.nets.values()})
    return _row(load) * (points * n + resolutions * real)


def _grids(load: Workload) -> float:
    evaluation, tier = load.plan.tier.evaluation, load.plan.tier
    cells = evaluation.grid_rows * load.images.source.classes * evaluation.shards
    points = points_of(load.plan).values()
    return cells * sum(
        float(load.images.pixels(tier.models[point.run.model].resolution)) for point in points
    )


def _state(load: Workload, gpus: int) -> float:
    """Of the largest runs, one on each GPU: what resumes them, and their checkpoints so far."""
    sizes = []
    for run in load.plan.runs.values():
        network = load.networks[run.model]
        has_average = run.is_base and isinstance(network.model, Edm2Model)
        copies = 3 + has_average + max(1, len(run.checkpoints))
        sizes.append(FLOAT * copies * network.parameters)
    return float(sum(sorted(sizes, reverse=True)[:gpus]))
