"""Reference statistics of a data set: mean and covariance of its features, for FD.

Formats: EDM2's ``.pkl`` ({num_images, fid: {mu, sigma}, fd_dinov2: {mu, sigma}}), and ``.npz`` with
``mu`` and ``sigma`` of Inception features (EDM, ADM). Everything becomes float64.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mclr.checkpoints.fit import check_bytes, misfit
from mclr.checkpoints.places import StoredArray
from mclr.checkpoints.unpickle import PickledFile
from mclr.checkpoints.vocabulary import MisfitError, reading
from mclr.errors import UserError

MAX_FEATURES = 8192  # of one net; Inception has 2048
MAX_NAME = 80
PARTS = ("mu", "sigma")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Statistics:
    """Moments of a data set's features, by name of the feature net ("fid", "fd_dinov2")."""

    tensors: dict[str, Tensor]  # "fid.mu" (D,), "fid.sigma" (D, D), …; float64
    num_images: int | None
    dtype: str  # as stored in the source
    dropped: list[str]

    @property
    def dimensions(self) -> dict[str, int]:
        """Number of features of each net."""
        means = {name: mu for name, mu in self.tensors.items() if name.endswith(".mu")}
        return {name.removesuffix(".mu"): len(mu) for name, mu in means.items()}


def read_pickled_statistics(file: PickledFile) -> Statistics:
    """Statistics of an EDM2 reference file; UserError if it holds none."""
    entries: dict[Any, Any] = dict(file.top)
    dropped: list[str] = []
    num_images = entries.pop("num_images", None)
    if type(num_images) is not int:
        num_images = None
    wanted: dict[str, dict[str, StoredArray]] = {}
    for name, entry in entries.items():
        parts = entry if type(entry) is dict else {}
        found = {part: parts[part] for part in PARTS if type(parts.get(part)) is StoredArray}
        if len(found) == len(PARTS):
            wanted[str(name)] = found
        else:
            dropped.append(str(name))
    shown = sum(stored.raw.length for parts in wanted.values() for stored in parts.values())
    check_bytes(shown, file.source.stat().st_size, file.source)
    if odd := [name for name in wanted if not name.isprintable() or len(name) > MAX_NAME]:
        misfit(file.source, f"a feature net of the name {odd[0][:MAX_NAME]!r}")
    moments = {
        name: {part: file.array(stored) for part, stored in parts.items()}
        for name, parts in wanted.items()
    }
    return _statistics(moments, num_images, dropped, file.source)


def read_npz_statistics(source: Path) -> Statistics:
    """Statistics of Inception features in an ``.npz`` of EDM or ADM; no pickled arrays.

    Raises:
        UserError: not an ``.npz`` with plain arrays ``mu`` and ``sigma``.
    """
    with reading(source), zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise MisfitError("an array that is there twice")
        if not {f"{part}.npy" for part in PARTS} <= set(names):
            raise MisfitError("not an .npz with plain arrays mu and sigma")
        arrays = {part: _read_array(archive, f"{part}.npy") for part in PARTS}
        dropped = [name.removesuffix(".npy") for name in names]
    return _statistics(
        {"fid": arrays}, None, [name for name in dropped if name not in PARTS], source
    )


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    """An array of plain numbers; MisfitError before one is unpacked that is none, or too large."""
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in headers:
            raise MisfitError(f"{name} has version {version} of numpy's format")
        shape, fortran, dtype = headers[version](stream)
        if dtype.kind not in "fiu":
            raise MisfitError(f"{name} is not an array of plain numbers (dtype {dtype})")
        if len(shape) > len(PARTS) or max(shape, default=0) > MAX_FEATURES:
            raise MisfitError(f"{name} has shape {shape}; at most {MAX_FEATURES} features are read")
        length = math.prod(shape) * dtype.itemsize
        raw = stream.read(length + 1)  # one more, so that its checksum is compared at the end
    if len(raw) != length:
        raise MisfitError(f"{name} does not hold {length:,} bytes, as its shape {shape} says")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _statistics(
    moments: Mapping[str, Mapping[str, Array]],
    num_images: int | None,
    dropped: list[str],
    source: Path,
) -> Statistics:
    """Check all moments and gather them as float64."""
    if not moments:
        raise UserError(
            f"{source}: no statistics in it; expected EDM2's reference file, with mu and sigma "
            "under 'fid' or 'fd_dinov2'"
        )
    tensors: dict[str, Tensor] = {}
    for name, parts in moments.items():
        mu, sigma = (parts[part].astype(np.float64) for part in PARTS)
        _check_moments(mu, sigma, f"{source}: {name}")
        tensors |= {f"{name}.mu": torch.from_numpy(mu), f"{name}.sigma": torch.from_numpy(sigma)}
    dtypes = sorted({array.dtype.name for parts in moments.values() for array in parts.values()})
    return Statistics(tensors, num_images, ", ".join(dtypes), dropped)


def _check_moments(mu: Array, sigma: Array, where: str) -> None:
    """A mean (D,) and a covariance (D, D)."""
    fits = mu.ndim == 1 and sigma.shape == (len(mu), len(mu)) and len(mu) > 0
    if not fits or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        what = f"mu {mu.shape} and sigma {sigma.shape} are no finite mean and square covariance"
    elif np.abs(sigma - sigma.T).max() > 1e-6 * np.abs(sigma).max() or (sigma.diagonal() < 0).any():
        what = "sigma is not symmetric, or has negative variances"
    else:
        return
    raise UserError(f"{where}: {what}; get the file again and compare its sha256")
