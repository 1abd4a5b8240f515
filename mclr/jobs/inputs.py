"""What the jobs that train share: their data, their private folder, their loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from mclr.data.load import (
    Manifest,
    iter_images,
    load_images,
    load_labels,
    load_manifest,
    map_images,
    split_sha256,
)
from mclr.events import EventLog
from mclr.files import sha256
from mclr.files.checksums import check
from mclr.settings.section import canonical
from mclr.training.loop import train
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee


@dataclass(frozen=True)
class Data:
    """The prepared data of a tier: manifest and splits, ``train`` and ``reference``.

    transform: how one's own photographs become squares, if not as the manifest says.
    """

    folder: Path
    transform: str | None = None

    @property
    def manifest(self) -> Manifest:
        found = load_manifest(self.folder / "manifest.json")
        if self.transform is None or found.own is None:
            return found
        return replace(found, own=replace(found.own, transform=self.transform))

    def train(self, scratch: Path | None = None) -> tuple[Tensor, Tensor]:
        """All training images and their labels: in memory, or mapped from a file in ``scratch``."""
        if scratch is None:
            return self.rows("train", None)
        return map_images(self.folder / "train.parquet", self.manifest, scratch)

    def labels(self, split: str) -> Tensor:
        return load_labels(self.folder / f"{split}.parquet")

    def rows(self, split: str, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images and labels of some rows of a split (None = all), in memory."""
        return load_images(self.folder / f"{split}.parquet", self.manifest, rows)

    def batches(self, split: str, batch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of a split in order, ``batch`` at a time from row ``start``."""
        return iter_images(self.folder / f"{split}.parquet", self.manifest, batch, start)


def state_folder(folder: Path, version: str, spec: BaseModel, *inputs: Path) -> StateFolder:
    """The private folder of one job; keyed by all that decides its result.

    version: that of the job's kind, in the place of the code (``workflow/versions.yaml``).

    Raises:
        UserError: an input is damaged.
    """
    read = {str(path): input_sha256(path) for path in inputs}
    key = "\n".join([canonical(spec), version, *read.values()])
    return StateFolder(folder, hashlib.sha256(key.encode()).hexdigest(), read)


def input_sha256(path: Path) -> str:
    """The sha256 of a file that a job reads, compared with its record."""
    if path.suffix == ".parquet":
        return split_sha256(path)
    check(path)
    return sha256(path)


def run_training(
    trainee: Trainee,
    name: str,
    checkpoints: tuple[int, ...],
    batch: int,
    seed: int,
    private: StateFolder,
    folder: Path,
) -> None:
    """Train, with the events of the run written to ``folder``."""
    train(
        trainee,
        name=name,
        checkpoints=checkpoints,
        batch=batch,
        seed=seed,
        state=private,
        events=EventLog(folder / "events.jsonl"),
    )
