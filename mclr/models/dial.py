"""A dial: a number that a network takes beside its label, and that is set when images are drawn.

GFT (arXiv 2501.15420) trains with β in (0, 1] as such an input; one network then has every strength
of guidance. A network without a dial takes no notice of a value.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from mclr.errors import UserError

FEATURES = 16
"""Cosines of a value: up to the sixteenth, half a period of which is a step of 1/15 of the dial."""
NEUTRAL = 1.0
"""The value at which a network models the data: without guidance."""

Net = TypeVar("Net", bound=nn.Module)


def check_value(value: float, where: str) -> float:
    """The value; UserError unless it is above 0 and at most 1."""
    if not 0 < value <= 1:
        raise UserError(
            f"{where} {value:g}: a dial goes from 0 (full guidance; 0 itself is none of its "
            "values) to 1 (no guidance); choose a value above 0 and up to 1"
        )
    return value


class Dial(nn.Module):
    """What a value adds to the embedding of the label: (N,) -> (N, E); zero at first.

    So a network to which a dial is added is the same for every value, until it is trained.
    """

    weight: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, FEATURES))
        self.at = NEUTRAL
        """The value where a pass gives none."""

    def forward(self, values: Tensor | None = None) -> Tensor:
        """Embedding (N, E) float32 of values (N,); (1, E) of ``at`` without them."""
        if values is None:
            values = torch.full((1,), self.at, device=self.weight.device)
        order = torch.arange(FEATURES, device=values.device)
        with torch.autocast(values.device.type, enabled=False):
            features = (math.pi * values.float()[:, None] * order).cos()
            return features @ self.weight.t()

    def fix(self) -> None:
        """Make the weight a number that nothing trains, of its own."""
        fixed = self.weight.detach().clone()
        del self.weight
        self.register_buffer("weight", fixed)


def dial_of(net: nn.Module) -> Dial | None:
    """The dial of a network, if it has one."""
    return next((module for module in net.modules() if isinstance(module, Dial)), None)


def turned(net: Net, value: float) -> Net:
    """The same network, on the same weights, with its dial at a value.

    Raises:
        UserError: it has no dial, or the value is none of a dial's.
    """
    if dial_of(net) is None:
        raise UserError(f"dial {value:g}: this network has none; leave out the dial")
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    made = copy.deepcopy(net, dict(shared))
    found = dial_of(made)
    if found is not None:
        found.at = check_value(value, "dial")
    return made
