"""Prepared data as tensors, and minibatches that depend on (seed, step) alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mclr.errors import UserError
from mclr.files import read_json

# Most jobs that read a manifest do without torch, which takes seconds to load.
if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Manifest:
    """What the prepared data look like: everything a network must know of them."""

    channels: int
    resolution: int
    num_classes: int
    class_names: tuple[str, ...]
    hashes: dict[str, str]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.resolution, self.resolution


def load_manifest(path: Path) -> Manifest:
    """Read ``manifest.json``; images must be square."""
    content = read_json(path)
    channels, height, width = content["shape"]
    if height != width:
        raise UserError(f"{path}: images are {height}×{width}; expected square images")
    hashes = {name: split["sha256"] for name, split in content["splits"].items()}
    names = tuple(content["class_names"])
    return Manifest(channels, height, content["num_classes"], names, hashes)


def load_images(path: Path, manifest: Manifest) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of one Parquet split."""
    import torch

    try:
        table = pq.ParquetFile(path).read(columns=["label", "image"])
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: not a readable Parquet split ({error}); delete it and run `snakemake` again"
        ) from None
    pixels = np.array(table["image"].combine_chunks().flatten())
    images = torch.from_numpy(pixels).view(-1, *manifest.shape)
    return images, torch.from_numpy(table["label"].to_numpy().astype(np.int64))


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
