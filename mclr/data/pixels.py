"""Prepared pixels, read from a Parquet split a block at a time: they need not fit in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mclr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]

BLOCK = 2**20
"""Bytes of images that are read at once."""


def blocks(path: Path, shape: tuple[int, int, int]) -> Iterator[Pixels]:
    """The images of a split in order, (n, C, H, W) with some n at a time.

    Raises:
        UserError: it is no split of such images.
    """
    rows = max(1, BLOCK // int(np.prod(shape)))
    try:
        # Unbuffered: a group of rows, which may be the whole file, is else read at once.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as split:
            for part in split.iter_batches(rows, columns=["image"], use_threads=False):
                yield part.column(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    """What is said of a split that cannot be read."""
    return UserError(
        f"{path}: not a readable Parquet split ({error}); delete it and run `snakemake` again"
    )


def batches(path: Path, shape: tuple[int, int, int], size: int, start: int) -> Iterator[Pixels]:
    """The images from row ``start``, ``size`` at a time; the last are as many as are left."""
    held: list[Pixels] = []
    skipped = count = 0
    for block in blocks(path, shape):
        skip = min(start - skipped, len(block))
        skipped += skip
        held, count = [*held, block[skip:]], count + len(block) - skip
        if count < size:
            continue
        joined = np.concatenate(held)
        whole = count - count % size
        yield from (joined[first : first + size] for first in range(0, whole, size))
        held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def some(path: Path, shape: tuple[int, int, int], rows: Pixels | NDArray[np.int64]) -> Pixels:
    """The images of some rows, in the order of ``rows`` (n,)."""
    found, first = np.empty((len(rows), *shape), np.uint8), 0
    for block in blocks(path, shape):
        here = (rows >= first) & (rows < first + len(block))
        found[here] = block[rows[here] - first]
        first += len(block)
    return found


def mapped(path: Path, shape: tuple[int, int, int], count: int, scratch: Path) -> Tensor:
    """All images, uint8 (count, C, H, W), in a file that is mapped into memory.

    What is used of it lies in memory for as long as there is room. The file is made in the folder
    ``scratch`` and has no name, so nothing of it is left when the process ends.
    """
    import torch

    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for block in blocks(path, shape):
            file.write(block.tobytes())
        file.flush()
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=(count, *shape)))
