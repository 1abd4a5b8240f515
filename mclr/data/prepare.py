"""Check raw images, split them into train and reference, and store both with a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from mclr.config import Data
from mclr.data.sources import READERS, RawImages, expected, verify
from mclr.errors import UserError
from mclr.files import atomic, sha256, write_json


def prepare(settings: Data, raw: Path, folder: Path) -> None:
    """Write ``train.parquet``, ``reference.parquet`` and ``manifest.json`` into ``folder``.

    The split keeps the class balance of the whole. Raises UserError when the raw file is corrupt,
    or when its content is not what the source promises.
    """
    verify(settings.source, raw)
    data = READERS[settings.source](raw)
    check(data, raw, settings)
    indices = np.arange(len(data.labels))
    train, reference = train_test_split(
        indices,
        test_size=settings.n_reference,
        random_state=settings.split_seed,
        stratify=data.labels,
    )
    splits = {"train": np.sort(train), "reference": np.sort(reference)}
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
    left = len(labels) - settings.n_reference
    if min(left, settings.n_reference) < classes:
        raise UserError(
            f"data.n_reference: {settings.n_reference} of {len(labels)} images leave a split "
            f"with fewer images than its {classes} classes"
        )


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
