"""Raw data: what a source's file must be (``data/versions.csv``), and the images it holds."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclr.errors import UserError
from mclr.files import sha256

VERSIONS = Path(__file__).with_name("versions.csv").resolve()
"""In a checkout a link to ``data/versions.csv``; a wheel has the file itself."""


@dataclass(frozen=True)
class RawImages:
    """All images of a source: uint8 (N, C, H, W), labels (N,) int64, a name per class.

    test: bool (N,), the images of the source's own test split, if it has one.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]
    test: NDArray[np.bool_] | None = None


def expected(source: str) -> dict[str, str]:
    """The row of ``data/versions.csv`` for a source: version, file, url, sha256, bytes, licence."""
    with VERSIONS.open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    if source not in rows:
        raise UserError(f"{VERSIONS}: no row for {source!r}; it has {', '.join(sorted(rows))}")
    return rows[source]


def verify(source: str, path: Path, shown: Path | None = None) -> None:
    """Raise UserError unless the file at ``path`` has the recorded size and sha256."""
    row = expected(source)
    if not path.is_file():
        raise UserError(f"{path}: raw data is missing; run `snakemake` to fetch it")
    found = sha256(path)
    if found != row["sha256"]:
        raise UserError(
            f"{shown or path}: raw data is corrupt: {path.stat().st_size} bytes with sha256 "
            f"{found[:12]}…, expected {row['bytes']} bytes with {row['sha256'][:12]}… "
            f"({VERSIONS.name}, {source}). Delete the file and run `snakemake` again"
        )
