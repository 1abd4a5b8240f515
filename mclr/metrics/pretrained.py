"""Published feature nets: weights from a local file, never downloaded, and the images they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mclr.checkpoints.torchfile import read_pth
from mclr.errors import UserError
from mclr.files import load_tensors, sha256


@dataclass(frozen=True)
class Published:
    """A published weight file: name of the net, and where the file is found."""

    net: str
    url: str

    def problem(self, path: Path, what: str) -> UserError:
        """The error for a file that is not this one."""
        return UserError(
            f"{path}: {what}; expected the weights of {self.net}, published as "
            f"{self.url.rsplit('/', 1)[-1]}: get them from {self.url}"
        )


def read_weights(
    path: Path, published: Published, expected: str | None = None
) -> dict[str, Tensor]:
    """The state dict in a ``.pth`` or ``.safetensors`` file; no code in the file is run.

    Args:
        expected: sha256 the file must have, in hex.

    Raises:
        UserError: missing, another sha256, damaged, or not a state dict.
    """
    if not path.is_file():
        raise published.problem(path, "file is missing")
    if expected is not None and (found := sha256(path)) != expected:
        raise published.problem(path, f"sha256 is {found[:12]}…, not {expected[:12]}…")
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)[0]
        content = read_pth(path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ").split("\n")[0][:200]
        raise published.problem(path, f"not a readable weight file ({reason})") from None
    tensors = isinstance(content, dict) and all(isinstance(t, Tensor) for t in content.values())
    if not tensors:
        raise published.problem(path, "not a state dict of tensors")
    return dict(content)


def mismatch(error: RuntimeError) -> str:
    """The first line of what ``load_state_dict`` says."""
    first = str(error).split("\n\t", 1)[-1].split("\n")[0]
    return f"weights do not fit ({first[:200]})"


def rgb(images: Tensor) -> Tensor:
    """Images uint8 (N, 3, H, W); grey ones (N, 1, H, W) are repeated to three equal channels.

    Raises:
        UserError: another type or number of channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"images {images.dtype} {tuple(images.shape)}: expected uint8 (N, 3, H, W) or "
            "(N, 1, H, W)"
        )
    return images.expand(-1, 3, -1, -1)
