"""Where raw images come from: one reader per source, listed in ``data/versions.csv``."""

from __future__ import annotations

import csv
import gzip
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclr.errors import UserError
from mclr.files import atomic, sha256

VERSIONS = Path(__file__).resolve().parents[2] / "data" / "versions.csv"


@dataclass(frozen=True)
class RawImages:
    """All images of a source: uint8 (N, C, H, W), labels (N,) int64, a name per class."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]


def expected(source: str) -> dict[str, str]:
    """The row of ``data/versions.csv`` for a source: version, file, url, sha256, bytes, licence."""
    with VERSIONS.open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    if source not in rows:
        raise UserError(f"{VERSIONS}: no row for {source!r}; it has {', '.join(sorted(rows))}")
    return rows[source]


def fetch(source: str, path: Path) -> None:
    """Copy the raw file of a source to ``path`` and check it against ``data/versions.csv``."""
    package, _, inside = expected(source)["url"].removeprefix("package:").partition("/")
    content = importlib.resources.files(package).joinpath(inside).read_bytes()
    with atomic(path) as temporary:
        temporary.write_bytes(content)
        verify(source, temporary, shown=path)


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


# scikit-learn's digits: one line per image, 64 values 0–16 and the class.
def read_digits(path: Path) -> RawImages:
    """Handwritten digits (UCI, 1,797 images, 8×8, 17 grey levels), scaled to 0–255."""
    with gzip.open(path, "rt") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return RawImages(images, table[:, -1], [str(digit) for digit in range(10)])


READERS = {"digits": read_digits}
