"""Where raw images come from: one fetcher and one reader per source of ``data/versions.csv``."""

from __future__ import annotations

import gzip
import importlib.resources
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mclr.data.fashion_mnist import fetch_fashion_mnist, read_fashion_mnist
from mclr.data.raw import RawImages, expected, verify
from mclr.errors import UserError
from mclr.files import atomic


def fetch(source: str, path: Path) -> None:
    """Write the raw file of a source to ``path``, checked against ``data/versions.csv``."""
    if source not in FETCHERS:
        raise UserError(f"source {source!r} is unknown; choose from {', '.join(FETCHERS)}")
    with atomic(path) as temporary:
        FETCHERS[source](temporary)
        verify(source, temporary, shown=path)


def fetch_digits(path: Path) -> None:
    """Copy the file that scikit-learn comes with."""
    package, _, inside = expected("digits")["url"].removeprefix("package:").partition("/")
    path.write_bytes(importlib.resources.files(package).joinpath(inside).read_bytes())


# scikit-learn's digits: one line per image, 64 values 0–16 and the class.
def read_digits(path: Path) -> RawImages:
    """Handwritten digits (UCI, 1,797 images, 8×8, 17 grey levels), scaled to 0–255."""
    with gzip.open(path, "rt") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return RawImages(images, table[:, -1], [str(digit) for digit in range(10)])


FETCHERS: dict[str, Callable[[Path], None]] = {
    "digits": fetch_digits,
    "fashion-mnist": fetch_fashion_mnist,
}
READERS: dict[str, Callable[[Path], RawImages]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
}
