"""Jobs that sample: points to evaluate, and the negatives of DDO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from mclr.data.load import Manifest, load_manifest, step_generator
from mclr.events import Progress
from mclr.files import atomic, save_tensors
from mclr.metrics.features import feature_batch, load_feature_net, stream_features
from mclr.models.family import load_network, make_family

# Image seeds of three purposes never meet: torch's CPU generator tells 32-bit seeds apart.
NEGATIVES_SEED = 2**30
GRID_SEED = 2**31


def labels_of(seeds: list[int], scheme: str, classes: int) -> Tensor:
    """The label of each image: balanced (seed modulo classes) or random (drawn by its seed)."""
    if scheme == "balanced":
        return torch.tensor([seed % classes for seed in seeds])
    draws = [torch.randint(classes, (1,), generator=step_generator(s, 6)) for s in seeds]
    return torch.cat(draws)


def shard_batches(spec: dict[str, Any], shard: int) -> list[list[int]]:
    """Seeds of the batches of one shard.

    A shard takes whole batches, so that every image is computed in the same batch, and to the
    same bits, however many shards there are.
    """
    first, n, size = spec["seed"] * spec["n_samples"], spec["n_samples"], spec["batch"]
    batches = [list(range(i, min(i + size, n))) for i in range(0, n, size)]
    begin, end = (len(batches) * s // spec["shards"] for s in (shard, shard + 1))
    return [[first + i for i in batch] for batch in batches[begin:end]]


@torch.no_grad()
def sample(
    spec: dict[str, Any],
    shard: int,
    manifest_file: Path,
    weights: Path,
    tokenizer: Path | None,
    feature_nets: dict[str, Path],
    features: Path,
    grid: Path,
) -> None:
    """Sample one shard of a point: features of every image, and a small grid of images.

    The grid has one row per noise seed and one column per class; all classes of a row start from
    the same noise, the same for every method and step.
    """
    manifest = load_manifest(manifest_file)
    family = make_family(spec, manifest, tokenizer)
    net = family.frozen(load_network(family, weights))
    nets = {name: load_feature_net(path, manifest) for name, path in feature_nets.items()}
    batches = shard_batches(spec, shard)
    progress = Progress(str(features.parent), len(batches), spec["batch"])

    def tables() -> Iterator[pa.Table]:
        for done, seeds in enumerate(batches):
            labels = labels_of(seeds, spec["labels"], manifest.num_classes)
            x = family.generate(net, seeds, labels, spec["guidance"])
            yield feature_batch(nets, family.decode(x), seeds, labels)
            progress.update(done + 1)

    stream_features(features, tables())
    rows, classes = spec["grid_rows"], manifest.num_classes
    first = GRID_SEED + shard * rows
    seeds = [first + row for row in range(rows) for _ in range(classes)]
    labels = torch.arange(classes).repeat(rows)
    images = family.decode(family.generate(net, seeds, labels, spec["guidance"]))
    write_grid(grid, images, manifest)


def write_grid(path: Path, images: Tensor, manifest: Manifest) -> None:
    """Images (rows·classes, C, H, W) as one PNG, a column per class."""
    C, H, W = manifest.shape
    cells = images.view(-1, manifest.num_classes, C, H, W).permute(0, 3, 1, 4, 2)
    array = cells.reshape(-1, manifest.num_classes * W, C).numpy()
    with atomic(path) as temporary:
        Image.fromarray(array[:, :, 0] if C == 1 else array).save(temporary, "PNG")


@torch.no_grad()
def sample_negatives(
    spec: dict[str, Any], manifest_file: Path, weights: Path, tokenizer: Path | None, output: Path
) -> None:
    """Samples of the frozen base model with balanced labels, as the network models them."""
    manifest = load_manifest(manifest_file)
    family = make_family(spec, manifest, tokenizer)
    net = family.frozen(load_network(family, weights))
    n, size = spec["n_negatives"], spec["batch"]
    progress, parts = Progress(output.stem, n, 1), []
    labels = labels_of(list(range(n)), "balanced", manifest.num_classes)
    for i in range(0, n, size):
        seeds = list(range(NEGATIVES_SEED + i, NEGATIVES_SEED + min(i + size, n)))
        parts.append(family.generate(net, seeds, labels[i : i + size], 0.0))
        progress.update(min(i + size, n))
    save_tensors(output, {"x": torch.cat(parts), "labels": labels}, {"seed": str(NEGATIVES_SEED)})
