"""The job that encodes the training images once, for all jobs that train on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mclr.device import CPU
from mclr.errors import UserError
from mclr.events import Progress
from mclr.files import load_tensors
from mclr.jobs.growing import GrowingRows
from mclr.jobs.inputs import Data, state_folder
from mclr.models.families import make_family
from mclr.models.pixels import RgbEncoder
from mclr.models.spec import ModelSpec
from mclr.planning.specs import EncodeSpec, PixelsSpec
from mclr.settings.section import canonical

BATCH = 50
"""Images encoded at once: at 32×32 more are slower on a CPU."""


def encode(
    spec: EncodeSpec | PixelsSpec,
    data: Data,
    tokenizer: Path | None,
    output: Path,
    state: Path,
    device: torch.device = CPU,
    version: str = "",
) -> None:
    """Write x (N, …), what the family keeps of each training image, and labels (N,).

    Moments of latents are float16 (rounded by far less than their own deviation), tokens int32,
    pixels uint8. Images and x need not fit in memory. A job that was
    killed goes on from a private file in ``state``, to the same bytes. version: of the result, see
    ``state_folder``.
    """
    stored = _stored(spec, data, tokenizer, device)
    labels = data.labels("train")
    private = state_folder(
        state, version, spec, data.folder / "train.parquet", *([tokenizer] if tokenizer else [])
    )
    with private.held():
        x = GrowingRows(private.folder, private.key, labels, {"spec": canonical(spec)})
        progress = Progress(f"encode {output.stem}", len(labels), 1, done=x.rows)
        for images, _ in data.batches("train", BATCH, x.rows):
            x.append(stored(images))
            progress.update(x.rows)
        x.finish(output)


def _stored(
    spec: EncodeSpec | PixelsSpec, data: Data, tokenizer: Path | None, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Images to what is stored of them."""
    if isinstance(spec, PixelsSpec):
        return RgbEncoder().encode_pixels
    family = make_family(spec, data.manifest, tokenizer, device)
    return lambda images: _compact(family.encode(images))


def _encoding(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a specification's content decides how images are encoded: the same for all pixels."""
    network = spec.get("network", {})
    coder = {key: network[key] for key in ("autoencoder", "tokenizer") if key in network}
    if not coder:
        return {"pixels": bool(spec)}
    return {"family": network["family"], "precision": spec["precision"], **coder}


def is_of_pixels(spec: ModelSpec) -> bool:
    """Whether a model is of plain pixels, which nothing encodes; one's own family may do so."""
    content = spec.content()
    return "pixels" in _encoding(content) and content["network"]["family"] != "own"


def _compact(encoded: Tensor) -> Tensor:
    return encoded.to(torch.float16 if encoded.is_floating_point() else torch.int32)


def load_encoded(path: Path, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """x (N, …) and labels (N,), int64, for a training job of specification ``spec``.

    The file is mapped into memory: rows are read when they are used, and processes share them.

    Raises:
        UserError: the file is missing, damaged, or of another network.
    """
    tensors, metadata = load_tensors(path)
    found = json.loads(metadata.get("spec", "{}"))
    if _encoding(found) != _encoding(spec.content()):
        raise UserError(
            f"{path}: encoded for another network than the one to train; delete it and run "
            "`snakemake` again"
        )
    return tensors["x"], tensors["labels"]
