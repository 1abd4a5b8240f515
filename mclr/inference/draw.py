"""What `mclr draw` does: some images of each of some classes, in one labelled picture."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from mclr.errors import UserError
from mclr.files import atomic
from mclr.inference.grid import labelled_grid
from mclr.inference.inputs import image_seeds, label_numbers
from mclr.inference.pipeline import ClassConditionalPipeline, to_pil

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tiff": "TIFF"}
"""Of the picture, by the ending of its name; PNG and TIFF keep every pixel."""

CALL = frozenset(inspect.signature(ClassConditionalPipeline.__call__).parameters) - {"sampler"}
"""What a pipeline is called with beside settings of its sampler."""


@dataclass(frozen=True)
class Request:
    """Which images: ``per_class`` of each of ``classes``, from ``seed`` on, and how."""

    classes: list[str]
    per_class: int
    seed: int
    guidance: float
    sampler: dict[str, float]
    batch: int | None
    dial: float | None = None


def check_picture(path: Path) -> None:
    """UserError unless a picture can be written under this name."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected the name of the picture to write")
    if path.suffix.lower() not in FORMATS:
        got = f"{path.suffix} is no format" if path.suffix else "has no ending"
        raise UserError(f"{path}: {got} of a picture; expected one of {', '.join(FORMATS)}")


def draw_grid(
    pipeline: ClassConditionalPipeline,
    request: Request,
    out: Path,
    npz: Path | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Write the picture, and the images as ``npz``; gives what was written, for a script.

    A row per class and a column per seed; all images of a column start from the same noise.
    ``npz`` has the layout of guided-diffusion's evaluator: ``arr_0`` images uint8 (N, H, W, C) and
    ``arr_1`` labels (N,); and ``seeds`` (N,).
    """
    for name in request.sampler:
        if name in CALL:
            raise UserError(
                f"--sampler {name}: is no setting of a sampler; `mclr draw --help` has the options"
            )
    check_picture(out)
    names = pipeline.class_names
    rows = label_numbers(request.classes, names)
    columns = image_seeds(request.seed, request.per_class)
    drawn = pipeline(
        [label for label in rows for _ in columns],
        columns * len(rows),
        request.guidance,
        dial=request.dial,
        batch_size=request.batch,
        output_type="tensor",
        progress=progress,
        **request.sampler,
    )
    images = cast(Tensor, drawn.images)
    picture = labelled_grid(
        to_pil(images), [names[i] for i in rows], [str(seed) for seed in columns], "seed"
    )
    with atomic(out) as temporary:
        picture.save(temporary, FORMATS[out.suffix.lower()])
    if npz:
        pixels = images.permute(0, 2, 3, 1).numpy()
        with atomic(npz) as temporary, temporary.open("wb") as stream:
            np.savez(stream, arr_0=pixels, arr_1=drawn.labels, seeds=drawn.seeds)
    return {
        "out": str(out),
        "npz": str(npz) if npz else None,
        "classes": [{"label": label, "name": names[label]} for label in rows],
        "seeds": columns,
        "guidance": request.guidance,
        "dial": pipeline.dial_at(request.dial),
        "sampler": (pipeline.config.sampler.model_dump() if pipeline.config.sampler else {})
        | request.sampler,
    }
