"""Check raw images, split them into train and reference, and store both with a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mclr.data.raw import RawImages, expected, verify
from mclr.data.sources import READERS
from mclr.data.splits import hold_out
from mclr.errors import UserError
from mclr.files import atomic, sha256, write_json
from mclr.settings.data import Data


def prepare(settings: Data, raw: Path, folder: Path, resolution: int | None = None) -> None:
    """Write ``train.parquet``, ``reference.parquet`` and ``manifest.json`` into ``folder``.

    Args:
        resolution: side to which images are averaged down; their own if absent.

    With ``n_reference`` images are held out at random and both splits keep the class balance of the
    whole; without, the reference is the source's own test split. Raises UserError when the raw file
    is corrupt, when its content is not what the source promises, or when the side of its images is
    no multiple of ``resolution``.
    """
    verify(settings.source, raw)
    data = READERS[settings.source](raw)
    check(data, raw, settings)
    train, reference = _split(data, settings)
    if resolution is not None:
        data = replace(data, images=average_down(data.images, resolution))
    splits = {"train": train, "reference": reference}
    for name, rows in splits.items():
        _write_split(folder / f"{name}.parquet", data, rows)
    shape = list(data.images.shape[1:])
    write_json(
        folder / "manifest.json",
        {
            "source": expected(settings.source),
            "shape": shape,
            "dtype": "uint8",
            "num_classes": len(data.class_names),
            "class_names": data.class_names,
            "splits": {
                name: {
                    "sha256": sha256(folder / f"{name}.parquet"),
                    "count": len(rows),
                    "class_counts": _class_counts(data, rows),
                }
                for name, rows in splits.items()
            },
        },
        noted=True,
    )


def check(data: RawImages, raw: Path, settings: Data) -> None:
    """Raise UserError unless counts, shapes, types and class balance make sense."""
    images, labels, classes = data.images, data.labels, len(data.class_names)
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(labels):
        raise UserError(
            f"{raw}: expected uint8 images (N, C, H, W) and N labels, got {images.dtype} "
            f"{images.shape} and {len(labels)} labels"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{raw}: labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}"
        )
    counts = np.bincount(labels, minlength=classes)
    if counts.min() * 2 < counts.max():
        raise UserError(f"{raw}: classes are out of balance: {counts.tolist()} images per class")
    n_reference = settings.n_reference
    if n_reference is None:
        if data.test is None:
            raise UserError(
                f"data.n_reference: required key is missing, {settings.source} has no test split"
            )
        n_reference = int(data.test.sum())
    left = len(labels) - n_reference
    if min(left, n_reference) < classes:
        raise UserError(
            f"data.n_reference: {n_reference} of {len(labels)} images leave a split "
            f"with fewer images than its {classes} classes"
        )


def average_down(images: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """Means of squares of pixels, halves rounded up: (N, C, H, W) to (N, C, resolution, ·).

    Raises:
        UserError: the images are not square, or their side is no multiple of ``resolution``.
    """
    n, channels, height, width = images.shape
    if height != width or resolution < 1 or height % resolution:
        raise UserError(
            f"resolution {resolution}: images of {height}×{width} pixels can be averaged down "
            f"only to a side that divides theirs"
        )
    factor = height // resolution
    blocks = images.reshape(n, channels, resolution, factor, resolution, factor)
    sums = blocks.sum((3, 5), dtype=np.uint32)
    means: NDArray[np.uint8] = ((sums + factor**2 // 2) // factor**2).astype(np.uint8)
    return means


def _split(data: RawImages, settings: Data) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training images and of the reference images."""
    if settings.n_reference is not None:
        rows, names = np.arange(len(data.labels)), data.class_names
        return hold_out(rows, data.labels, names, settings.n_reference, settings.split_seed)
    test = cast("NDArray[np.bool_]", data.test)  # as check() has made sure
    return np.flatnonzero(~test), np.flatnonzero(test)


def _class_counts(data: RawImages, rows: NDArray[np.int64]) -> list[int]:
    counts: list[int] = np.bincount(data.labels[rows], minlength=len(data.class_names)).tolist()
    return counts


def _write_split(path: Path, data: RawImages, rows: NDArray[np.int64]) -> None:
    pixels = data.images[rows].reshape(len(rows), -1)
    table = pa.table(
        {
            "index": pa.array(rows, pa.int64()),
            "label": pa.array(data.labels[rows], pa.int16()),
            "image": pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), pixels.shape[1]),
        }
    )
    with atomic(path) as temporary:
        pq.write_table(table, temporary)
