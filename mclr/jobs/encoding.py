"""The job that encodes the training images once, for all jobs that train on latents or tokens."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mclr.config.base import canonical
from mclr.device import CPU
from mclr.errors import UserError
from mclr.events import Progress
from mclr.files import load_tensors, save_tensors
from mclr.jobs.inputs import Data
from mclr.models.family import make_family

BATCH = 50
"""Images encoded at once: at 32×32 more are slower on a CPU."""


def encode(
    spec: dict[str, Any], data: Data, tokenizer: Path, output: Path, device: torch.device = CPU
) -> None:
    """Write x (N, …), what the family keeps of each training image, and labels (N,).

    Moments of latents are float16 (rounded by far less than their own deviation), tokens int32.
    x grows in an unnamed file beside ``output``, so that it need not fit in memory.
    """
    family = make_family(spec, data.manifest, tokenizer, device)
    images, labels = data.train()
    progress = Progress(f"encode {output.stem}", len(images), 1)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output.parent) as scratch:
        x = None
        for begin in range(0, len(images), BATCH):
            part = _compact(family.encode(images[begin : begin + BATCH]))
            if x is None:
                x = np.memmap(scratch, part.dtype, "w+", shape=(len(images), *part.shape[1:]))
            x[begin : begin + len(part)] = part
            progress.update(begin + len(part))
        tensors = {"x": torch.from_numpy(x), "labels": labels}
        save_tensors(output, tensors, {"spec": canonical(spec)})


def _compact(encoded: Tensor) -> np.ndarray[Any, Any]:
    return encoded.to(torch.float16 if encoded.is_floating_point() else torch.int32).numpy()


def load_encoded(path: Path, spec: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """x (N, …) and labels (N,), int64, for a training job of specification ``spec``.

    The file is mapped into memory: rows are read when they are used.

    Raises:
        UserError: the file is missing, damaged, or of another network.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("spec") != canonical({key: spec[key] for key in ("network", "precision")}):
        raise UserError(
            f"{path}: encoded for another network than the one to train; delete it and run "
            "`snakemake` again"
        )
    return tensors["x"], tensors["labels"]
