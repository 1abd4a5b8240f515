"""Weights into networks, with an error that says what does not fit."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from mclr.errors import UserError


def load_weights(net: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Fill ``net`` with ``tensors``; a mismatch of names or shapes is a UserError."""
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).split("\n\t", 1)[-1].split("\n")[0]
        raise UserError(
            f"{source}: weights do not fit the configured network ({first}); "
            "the architecture in the configuration must be the one they were trained with"
        ) from None
