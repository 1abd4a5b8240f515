"""The job that takes over a published feature net, and the published moments for its FD."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mclr.device import CPU
from mclr.errors import UserError
from mclr.jobs.feature_net import write_net
from mclr.jobs.inputs import Data
from mclr.metrics.dinov2 import DINOV2
from mclr.metrics.features import MOMENTS, Settings, load_published
from mclr.metrics.inception import INCEPTION
from mclr.metrics.pretrained import mismatch, read_weights
from mclr.settings.features import Dinov2Features, InceptionFeatures
from mclr.weights.header import load_statistics
from mclr.weights.importer import import_weights

PUBLISHED = {"inception": (INCEPTION, "fid"), "dinov2": (DINOV2, "fd_dinov2")}
"""Weight file of each kind of net, and what EDM2's statistics call its moments."""


def take_over(
    settings: Settings,
    data: Data,
    weights: Path,
    statistics: Path | None,
    folder: Path,
    most: int,
    device: torch.device = CPU,
) -> None:
    """Write the files of a feature net (see ``mclr.jobs.feature_net``) with published weights.

    statistics: EDM2's reference file or an ``.npz``, with moments of this net.
    most: training images whose features are written, for the row of real images.

    Raises:
        UserError: a file is missing, damaged, or of another net.
    """
    if not isinstance(settings, InceptionFeatures | Dinov2Features):
        raise ValueError(f"{settings.kind} has no published weights to take over")
    published, key = PUBLISHED[settings.kind]
    state = read_weights(weights, published)
    try:
        net = load_published(settings, state)
    except RuntimeError as error:
        raise published.problem(weights, mismatch(error)) from None
    moments = read_moments(statistics, key) if statistics else {}
    stored = {name: tensor.clone() for name, tensor in state.items()} | moments
    write_net(settings, net.to(device), data, folder, None, stored, most)


def read_moments(file: Path, key: str) -> dict[str, Tensor]:
    """Published moments of the net that ``file`` calls ``key``; UserError if it has none of it."""
    with tempfile.TemporaryDirectory() as folder:
        imported = Path(folder, "statistics.safetensors")
        import_weights(file, imported, "statistics")
        found, _ = load_statistics(imported)
        if key not in found:
            raise UserError(f"{file}: statistics of {', '.join(found)}, but none of {key!r}")
        return dict(zip(MOMENTS, (found[key].mu.clone(), found[key].sigma.clone()), strict=True))
