"""Whether the files of a model folder hold the networks that its configuration describes.

The configuration is somebody else's, and a few bytes of it can describe a network of any size: so
its tensors are counted without memory, and compared with what the files really have.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from mclr.errors import UserError
from mclr.inference.folder import CONFIG, TOKENIZER, WEIGHTS, ModelConfig
from mclr.models.foreign import described
from mclr.models.trace import parameters

FILES = {"model": WEIGHTS, "tokenizer": TOKENIZER}


def check_fits(folder: Path, config: ModelConfig) -> None:
    """UserError where a network has more numbers than the file of its weights.

    Of a family of somebody's own nothing is known; its class is the caller's.
    """
    for part, make in described(config.spec.network, config.manifest).items():
        name = FILES[part]
        stored = _numbers(folder / name)
        try:
            with torch.device("meta"):
                told = parameters(make())
        except (RuntimeError, OverflowError) as error:  # beyond what torch can count
            first = str(error).splitlines()[0]
            raise UserError(f"{folder / CONFIG}: network: {first}; download it again") from None
        if told > stored:
            raise UserError(
                f"{folder / CONFIG}: network: describes {told:,} numbers, but {name} has "
                f"{stored:,}; export or download it again"
            )


def _numbers(path: Path) -> int:
    """Of all tensors, by the head of the file."""
    try:
        with safe_open(path, framework="pt") as stored:
            return sum(prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: checkpoint is truncated or not safetensors ({error}); download it again"
        ) from None
