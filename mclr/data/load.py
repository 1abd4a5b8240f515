"""Prepared data as tensors, and minibatches that depend on (seed, step) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mclr.data.pixels import batches, mapped, some, unreadable
from mclr.errors import UserError
from mclr.files import read_json, sha256
from mclr.settings.data import DECODING

# Most jobs that read a manifest do without torch, which takes seconds to load.
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mclr.data.images.read import IndexedImages

GROUP = 256
"""Own images that are decoded and put into their place at once."""


@dataclass(frozen=True)
class OwnSource:
    """Where the images of an index lie, as configured, and how they are decoded."""

    path: str
    transform: str
    exif: str
    decoding: dict[str, Any] = field(default_factory=dict)
    """Further settings of ``mclr.data.images.decode.Decoder``."""


@dataclass(frozen=True)
class Manifest:
    """What the prepared data look like: everything a network must know of them.

    own: None = the splits hold pixels, else they are an index of the user's own images.
    class_counts: images of each class, by split; empty where there are no data.
    """

    channels: int
    resolution: int
    num_classes: int
    class_names: tuple[str, ...]
    hashes: dict[str, str]
    own: OwnSource | None = None
    class_counts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.resolution, self.resolution


def load_manifest(path: Path) -> Manifest:
    """Read ``manifest.json``; images must be square."""
    content = read_json(path, "shape", "splits", "num_classes", "class_names", "source")
    channels, height, width = content["shape"]
    if height != width:
        raise UserError(f"{path}: images are {height}×{width}; expected square images")
    hashes = {name: split["sha256"] for name, split in content["splits"].items()}
    names = tuple(content["class_names"])
    found: dict[str, Any] = content["source"]
    counts = {
        name: tuple(split.get("class_counts", ())) for name, split in content["splits"].items()
    }
    own = None
    if "path" in found:
        further = {key: found[key] for key in DECODING if key in found}
        own = OwnSource(found["path"], found["transform"], found["exif"], further)
    return Manifest(channels, height, content["num_classes"], names, hashes, own, counts)


def load_labels(path: Path) -> Tensor:
    """Labels int64 (N,) of one Parquet split."""
    import torch

    return torch.from_numpy(_read(path, ["label"])["label"].to_numpy().astype(np.int64))


def load_images(
    path: Path, manifest: Manifest, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of one Parquet split, or of some rows.

    Raises:
        UserError: the split cannot be read; or an image of one's own is missing or has changed.
    """
    import torch

    if (own := manifest.own) is None:
        labels = load_labels(path)
        rows = torch.arange(len(labels)) if rows is None else rows
        return torch.from_numpy(some(path, manifest.shape, rows.numpy())), labels[rows]
    labels = load_labels(path)
    rows = torch.arange(len(labels)) if rows is None else rows
    images = torch.empty(len(rows), *manifest.shape, dtype=torch.uint8)
    first = 0
    groups = _groups(rows.tolist(), GROUP)
    for part in _indexed(path, manifest, own).batches(groups, torch.get_num_threads()):
        images[first : first + len(part)] = torch.from_numpy(part)
        first += len(part)
    return images, labels[rows]


def map_images(path: Path, manifest: Manifest, scratch: Path) -> tuple[Tensor, Tensor]:
    """As ``load_images`` of all rows; pixels of a source lie in a nameless file of ``scratch``.

    It is mapped into memory, so they need not fit there. One's own images are loaded.
    """
    if manifest.own is not None:
        return load_images(path, manifest)
    labels = load_labels(path)
    return mapped(path, manifest.shape, len(labels), scratch), labels


def iter_images(
    path: Path, manifest: Manifest, batch: int, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels of one split, ``batch`` at a time in the order of its rows.

    One's own images are decoded on the way, by as many threads as torch uses; a few batches lie
    in memory. start: the first row.
    """
    import torch

    labels = load_labels(path)
    if (own := manifest.own) is None:
        for part in batches(path, manifest.shape, batch, start):
            yield torch.from_numpy(part.copy()), labels[start : start + len(part)]
            start += len(part)
        return
    groups = _groups(range(start, len(labels)), batch)
    parts = _indexed(path, manifest, own).batches(groups, torch.get_num_threads())
    for group, part in zip(groups, parts, strict=True):
        yield torch.from_numpy(part), labels[group[0] : group[-1] + 1]


def _indexed(path: Path, manifest: Manifest, own: OwnSource) -> IndexedImages:
    from mclr.data.images.decode import Decoder
    from mclr.data.images.read import COLUMNS, MIRRORED, IndexedImages

    decoder = Decoder(
        own.transform, manifest.resolution, manifest.channels, own.exif, **own.decoding
    )
    table = _read(path, None)
    kept = [name for name in (*COLUMNS, MIRRORED) if name in table.column_names]
    return IndexedImages(path, table.select(kept), own.path, decoder)


def _groups(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def split_sha256(path: Path) -> str:
    """The sha256 of a Parquet split, as it is now; the manifest beside it says the same.

    Raises:
        UserError: the split is missing, or is not the one that was prepared.
    """
    manifest = path.with_name("manifest.json")
    if not path.is_file():
        raise UserError(
            f"{path}: not a readable Parquet split (no such file); run `snakemake` to prepare it"
        )
    found = sha256(path)
    meant = load_manifest(manifest).hashes.get(path.stem) if manifest.is_file() else found
    if found != meant:
        raise UserError(
            f"{path}: damaged: its sha256 is {found[:12]}…, in {manifest.name} "
            f"{str(meant)[:12]}…. Delete {path.parent} and run `snakemake` again, or "
            f"`dvc checkout --force {path.parent}` if it is published"
        )
    return found


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    split_sha256(path)
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def step_generator(*key: int) -> torch.Generator:
    """A generator for one purpose: equal keys (seed, step, stream …) give equal draws."""
    import torch

    # With its length: SeedSequence takes (a, b) and (a, b, 0) for the same key.
    state = np.random.SeedSequence((*key, len(key))).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def minibatch(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Rows (batch,) of step ``step`` (from 0): permutation after permutation of n rows."""
    import torch

    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    rows = torch.empty_like(positions)
    for epoch in epochs.unique().tolist():
        order = torch.randperm(n, generator=step_generator(seed, epoch, 0))
        chosen = epochs == epoch
        rows[chosen] = order[positions[chosen] % n]
    return rows
