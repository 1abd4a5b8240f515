"""Feature nets applied to images, and features as Parquet.

A feature file has one row per image: ``seed``, ``label``, and for each feature net ``f`` the
columns ``f.features`` and, if the net has any, ``f.logits`` (float32 lists).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import atomic, load_tensors
from mclr.files.checksums import check
from mclr.metrics.classifier import BATCH, Classifier
from mclr.metrics.statistics import Gaussian, gaussian
from mclr.metrics.vit import VitConfig
from mclr.settings.features import (
    ClassifierFeatures,
    Dinov2Features,
    EfficientNetFeatures,
    FeatureNet,
    InceptionFeatures,
)

Nets = Mapping[str, nn.Module]
NetFeatures = dict[str, tuple[Tensor, Tensor]]
"""Features (N, d) and logits (N, classes or 0) of each net, by its name."""
State = dict[str, Tensor]
PACKAGES = b"packages"
"""Key of a feature file's metadata: packages other than those of the lock file."""
MOMENTS = ("reference.mu", "reference.sigma")
"""Tensors beside a published net's weights: what FD compares with in place of the features of the
reference images."""
Settings = ClassifierFeatures | EfficientNetFeatures | InceptionFeatures | Dinov2Features
SETTINGS: TypeAdapter[Settings] = TypeAdapter(FeatureNet)


def build_classifier(
    settings: ClassifierFeatures, manifest: Manifest, generator: torch.Generator
) -> Classifier:
    """A classifier with random weights that depend on the generator alone."""
    net = Classifier(
        manifest.channels, settings.channels, settings.dimensions, manifest.num_classes
    )
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    return net


def feature_settings(weights: Path) -> Settings:
    """Settings of the feature net in a file written by the ``feature_net`` rule."""
    return SETTINGS.validate_json(load_tensors(weights)[1]["settings"])


def load_feature_net(weights: Path, manifest: Manifest) -> nn.Module:
    """The feature net of a file written by the ``feature_net`` rule, whatever its kind."""
    tensors, metadata = load_tensors(weights)
    settings = SETTINGS.validate_json(metadata["settings"])
    if isinstance(settings, EfficientNetFeatures):
        from mclr.metrics.efficientnet import EfficientNetLite0

        pretrained = EfficientNetLite0(settings.size, manifest.num_classes)
        pretrained.load(tensors)
        return pretrained.eval().requires_grad_(False)
    if isinstance(settings, InceptionFeatures | Dinov2Features):
        return load_published(settings, _without_moments(tensors))
    net = build_classifier(settings, manifest, torch.Generator())
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def load_published(settings: InceptionFeatures | Dinov2Features, state: State) -> nn.Module:
    """Inception or DINOv2 with its published weights, for inference."""
    if isinstance(settings, InceptionFeatures):
        from mclr.metrics.inception import Inception

        return Inception(state).eval().requires_grad_(False)
    from mclr.metrics.dinov2 import dinov2_of

    sizes = {"config": VitConfig(**settings.network)} if settings.network else {}
    return dinov2_of(state, settings.resize, **sizes, resolution=settings.side)


def resize_of(settings: Settings) -> str:
    """How a feature net resizes images, for the protocol."""
    if isinstance(settings, EfficientNetFeatures):
        return f"bilinear with antialias, float32, {settings.size}×{settings.size}"
    if isinstance(settings, InceptionFeatures):
        return "bilinear of TensorFlow 1, 299×299"
    if isinstance(settings, Dinov2Features):
        return f"bicubic with antialias ({settings.resize}), {settings.side}×{settings.side}"
    return "none"


def published_moments(weights: Path) -> Gaussian | None:
    """Published moments of real images that a feature net's file carries, if it does."""
    check(weights)
    with safe_open(weights, framework="pt") as stored:
        if MOMENTS[0] not in stored.keys():  # noqa: SIM118
            return None
        mu, sigma = (stored.get_tensor(name) for name in MOMENTS)
        return gaussian(mu, sigma, str(weights))


def _without_moments(tensors: State) -> State:
    return {name: tensor for name, tensor in tensors.items() if name not in MOMENTS}


@torch.no_grad()
def net_features(nets: Nets, images: Tensor) -> NetFeatures:
    """Features and logits of uint8 images (N, C, H, W) by each net, on the images' device."""
    return {name: net(images) for name, net in nets.items()}


def feature_table(found: NetFeatures, seeds: Sequence[int], labels: Tensor) -> pa.Table:
    """Features of one batch of images as rows of a feature file."""
    columns = {
        "seed": _column(np.asarray(seeds, np.int64), pa.int64()),
        "label": _column(labels.numpy().astype(np.int16), pa.int16()),
    }
    for name, (features, logits) in found.items():
        columns[f"{name}.features"] = _lists(features)
        if logits.shape[1]:
            columns[f"{name}.logits"] = _lists(logits)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def stream_features(path: Path, batches: Iterable[pa.Table]) -> None:
    """Write batches one by one, so that images and features never lie in memory together."""
    with atomic(path, noted=True) as temporary:
        writer: pq.ParquetWriter | None = None
        try:
            for batch in batches:
                writer = writer or pq.ParquetWriter(temporary, batch.schema)
                writer.write_table(batch)
        finally:
            if writer:
                writer.close()


def write_features(
    path: Path, nets: Nets, images: Tensor, labels: Tensor, rows: Sequence[int] | None = None
) -> None:
    """Feature file of a whole set of real images; ``seed`` is the row, or that in ``rows``."""
    parts = [slice(first, first + BATCH) for first in range(0, max(1, len(images)), BATCH)]
    write_batches(path, nets, ((images[p], labels[p]) for p in parts), rows)


def write_batches(
    path: Path,
    nets: Nets,
    batches: Iterable[tuple[Tensor, Tensor]],
    rows: Sequence[int] | None = None,
) -> None:
    """The same of images and labels that come batch by batch."""

    def tables() -> Iterator[pa.Table]:
        first = 0
        for images, labels in batches:
            last = first + len(images)
            seeds = range(first, last) if rows is None else rows[first:last]
            yield feature_table(net_features(nets, images), seeds, labels)
            first = last

    stream_features(path, tables())


@dataclass(frozen=True)
class Features:
    """Features of N images by one net.

    features: (N, d) in float32, as they are stored. logits: (N, classes or 0) in float64.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    seeds: Tensor


def with_packages(tables: Iterable[pa.Table], packages: str) -> Iterator[pa.Table]:
    """Tables that say which packages made them, where these are not those of the lock file."""
    about = {PACKAGES: packages} if packages else None
    return (table.replace_schema_metadata(about) if about else table for table in tables)


def packages_of(paths: Sequence[Path]) -> set[str]:
    """What ``with_packages`` noted in feature shards that were read without an error."""
    noted = (pq.read_schema(path).metadata or {} for path in paths)
    return {about[PACKAGES].decode() for about in noted if PACKAGES in about}


def read_features(paths: Sequence[Path], net: str) -> Features:
    """Read the shards of one point, in the order of their seeds.

    Raises:
        UserError: a shard is missing, damaged or without features of ``net``.
    """
    if not paths:
        raise UserError(f"no feature shards to read for {net}; run `snakemake` to make them")
    for path in paths:
        check(path)
    try:
        table = pa.concat_tables([_read_net(path, net) for path in paths]).sort_by("seed")
        features = _matrix(table[f"{net}.features"])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"{paths[0].parent}: a feature shard is missing or damaged "
            f"({' '.join(str(error).split())}); delete the folder and run `snakemake` again"
        ) from None
    logits = torch.empty(len(table), 0).double()
    if f"{net}.logits" in table.column_names:
        logits = _matrix(table[f"{net}.logits"]).double()
    return Features(
        features,
        logits,
        torch.from_numpy(table["label"].to_numpy().astype(np.int64)),
        torch.from_numpy(table["seed"].to_numpy().copy()),
    )


def _read_net(path: Path, net: str) -> pa.Table:
    """The columns of one net: those of others would be read and sorted for nothing."""
    own = ("seed", "label", f"{net}.features", f"{net}.logits")
    with pq.ParquetFile(path) as stored:
        return stored.read([name for name in stored.schema_arrow.names if name in own])


def _lists(values: Tensor) -> pa.FixedSizeListArray:
    flat = _column(values.cpu().contiguous().view(-1).numpy(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


# ``pa.array`` and ``pa.table`` would import pandas, half a second in each sampling job.
def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _matrix(column: pa.ChunkedArray) -> Tensor:
    flat = column.combine_chunks().flatten().to_numpy()
    return torch.from_numpy(flat.reshape(len(column), -1).astype(np.float32))
