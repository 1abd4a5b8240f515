"""Disk and network of a tier, before compression: an upper bound, near for weights."""

from __future__ import annotations

import math

from mclr.cost.downloads import released_downloads
from mclr.cost.work import Workload
from mclr.data.raw import expected
from mclr.metrics.cost import dimensions, logits, published_parameters
from mclr.models.cost import Cost
from mclr.settings.features import PublishedFeatures

FLOAT = 4  # bytes
INDEX_ROW = 100
"""Bytes of an image in an index of one's own images: name, checksum, place; about ImageNet's."""


def disk_of(workload: Workload, gpus: int) -> dict[str, float]:
    """Bytes of each kind of file when all is done; ``state`` only while runs train.

    One's own images stay where they are and are not counted.
    """
    released = sum(file.bytes for file in released_downloads(workload))
    found = {"published files": released} if released else {}
    return found | {
        "data": _data(workload),
        "checkpoints": _checkpoints(workload),
        "features": _features(workload),
        "grids": _grids(workload),
        "state": _state(workload, gpus),
    }


def _data(load: Workload) -> float:
    """Raw, prepared, encoded images, and samples of what DDO starts from."""
    total = _prepared(load)
    for name in load.subjects("encode"):
        network = load.networks[name]
        total += load.images.n_train * math.prod(network.shape) * network.kept_bytes
    for side in load.subjects("encode_pixels"):
        total += load.images.n_train * load.images.pixels(int(side))
    for start in load.subjects("negatives"):
        size = load.networks[load.plan.model_of(start)].drawn_bytes
        total += size * load.plan.negatives_spec(start).n_negatives
    return total


def _prepared(load: Workload) -> float:
    """Images of a source at each resolution and as they came; an index of one's own images."""
    images = load.images
    rules = ("prepare", "prepare_images", "prepare_smaller", "prepare_images_smaller")
    sizes = [int(job.subject or 0) or None for job in load.jobs if job.rule in rules]
    if load.dag.is_own:
        return float(INDEX_ROW * (images.n_train + images.n_reference) * len(sizes))
    raw = float(expected(load.plan.tier.data.source)["bytes"])
    return raw + images.source.count * sum(images.pixels(size) for size in sizes)


def _checkpoints(load: Workload) -> float:
    """Every checkpoint of every run, the best of each experiment once more, guides, encoders.

    Published feature nets, too: a copy for each resolution; others are small.
    """
    plan, total = load.plan, 0.0
    for run in load.runs:
        total += max(1, len(run.weights)) * load.networks[run.model].parameters
    for name in load.subjects("best"):
        total += load.networks[plan.tier.runs[name].model].parameters
    for rule in ("guide", "import_guide"):
        total += sum(load.guides[name].parameters for name in load.subjects(rule))
    for rule in ("tokenizer", "import_tokenizer"):
        total += sum(load.networks[name].coder.parameters for name in load.subjects(rule))
    for folder in load.subjects("published_net"):
        settings = plan.tier.features[plan.nets[folder][0]]
        if isinstance(settings, PublishedFeatures):
            total += published_parameters(settings)
    return FLOAT * total


def _features(load: Workload) -> float:
    """Features and logits by all nets, seed and label, of sampled and of real images."""
    classes, features = load.images.source.classes, load.plan.tier.features
    rows = {
        name: FLOAT * (dimensions(settings) + logits(settings, classes))
        for name, settings in features.items()
    }
    n = load.plan.tier.evaluation.n_samples
    total = (sum(rows.values()) + 10) * len(load.points) * n
    for folder in (*load.subjects("feature_net"), *load.subjects("published_net")):
        name = load.plan.nets[folder][0]
        real = load.images.n_reference + load.training_features(features[name])
        total += (rows[name] + 10) * real
    return float(total)


def _grids(load: Workload) -> float:
    evaluation, tier = load.plan.tier.evaluation, load.plan.tier
    columns = len(evaluation.shown(load.images.source.classes))
    cells = evaluation.grid_rows * columns * evaluation.shards
    return cells * sum(
        float(load.images.pixels(tier.models[point.run.model].resolution))
        for point in load.points.values()
    )


def _state(load: Workload, gpus: int) -> float:
    """Of the largest runs, one on each GPU: what resumes them, and their checkpoints so far."""
    bases, guides = map(load.model_trained, load.subjects("base")), load.subjects("guide")
    trained = [load.networks[name] for name in bases] + [load.guides[name] for name in guides]
    sizes = [_held(network, 1, averaged=network.has_average) for network in trained]
    tuned = [run for run in load.runs if not run.is_base]
    sizes += [
        _held(load.networks[run.model], len(run.weights), averaged=True in run.evaluated)
        for run in tuned
    ]
    return float(sum(sorted(sizes, reverse=True)[:gpus]))


def _held(network: Cost, checkpoints: int, *, averaged: bool) -> float:
    """Bytes of weights, Adam's moments, an average of them, and checkpoints."""
    return FLOAT * (3 + averaged + max(1, checkpoints)) * network.parameters
