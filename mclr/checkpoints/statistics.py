"""Reference statistics of a data set: mean and covariance of its features, for FD.

Formats: EDM2's ``.pkl`` ({num_images, fid: {mu, sigma}, fd_dinov2: {mu, sigma}}), and ``.npz`` with
``mu`` and ``sigma`` of Inception features (EDM, ADM). Everything becomes float64.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mclr.checkpoints.stored import StoredArray
from mclr.checkpoints.unpickle import PickledFile
from mclr.checkpoints.vocabulary import refuse
from mclr.errors import UserError

MAX_BYTES = 1 << 30  # of one array; 2048 features need 2^25
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
    moments: dict[str, dict[str, Array]] = {}
    for name, entry in entries.items():
        parts = entry if type(entry) is dict else {}
        found = {part: parts[part] for part in PARTS if type(parts.get(part)) is StoredArray}
        if len(found) == len(PARTS):
            moments[str(name)] = {part: file.array(stored) for part, stored in found.items()}
        else:
            dropped.append(str(name))
    return _statistics(moments, num_images, dropped, file.source)


def read_npz_statistics(source: Path) -> Statistics:
    """Statistics of Inception features in an ``.npz`` of EDM or ADM; no pickled arrays.

    Raises:
        UserError: not an ``.npz`` with plain arrays ``mu`` and ``sigma``.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        for part in PARTS:
            if sizes.get(f"{part}.npy", 0) > MAX_BYTES:
                refuse(source, f"{part} unpacks to {sizes[f'{part}.npy']:,} bytes")
        with np.load(source, allow_pickle=False) as stored:
            arrays = {part: np.asarray(stored[part]) for part in PARTS}
            dropped = [name for name in stored.files if name not in PARTS]
    except (OSError, LookupError, ValueError, MemoryError, EOFError, zipfile.BadZipFile) as error:
        refuse(source, f"not an .npz with plain arrays mu and sigma ({str(error)[:200]})")
    return _statistics({"fid": arrays}, None, dropped, source)


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
