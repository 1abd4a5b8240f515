"""What a family of one's own costs: its likelihood is computed once, on a processor.

Such code may do anything, so unlike the other networks it is given real tensors.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.device import CPU
from mclr.likelihood import Draw
from mclr.models.cost import Cost
from mclr.models.own.config import OwnModel
from mclr.models.own.family import OwnFamily, own_family
from mclr.models.spec import ModelSpec
from mclr.models.trace import Trace, measured, parameters
from mclr.settings.section import canonical


class OwnCost(Cost):
    """See ``mclr.models.cost.Cost``."""

    model: OwnModel

    @property
    def key(self) -> tuple[str, tuple[int, int, int]]:
        images = self.manifest
        shape = images.channels, images.resolution, images.num_classes
        return canonical(self.model), shape

    def traced(self, rows: int, grad: bool) -> Trace:
        return _traced(*self.key, rows, grad)

    @property
    def parameters(self) -> int:
        return parameters(self.build())

    @property
    def generation(self) -> int:
        return self.evaluation * self.model.nfe

    def build(self) -> nn.Module:
        return _family(*self.key).build(torch.Generator().manual_seed(0))

    def evaluate(self, net: Any, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        family = _family(*self.key, device)
        return family.log_likelihood(net, *_given(family, rows))


@cache
def _family(text: str, shape: tuple[int, int, int], device: torch.device = CPU) -> OwnFamily:
    model = OwnModel.model_validate_json(text)
    told = {"network": model.architecture(), "precision": model.precision}
    return own_family(ModelSpec.model_validate(told), Manifest(*shape, (), {}), device)


def _given(family: OwnFamily, rows: int) -> tuple[Tensor, Tensor, Draw]:
    """Black images of the first class."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(rows, *family.manifest.shape, dtype=torch.uint8)
    x, labels = family.from_encoded(family.encode(images), generator), torch.zeros(rows).long()
    draw = family.draw(x, generator).to(family.device)
    return x.to(family.device), labels.to(family.device), draw


@cache
def _traced(text: str, shape: tuple[int, int, int], rows: int, grad: bool) -> Trace:
    family = _family(text, shape)
    net = family.build(torch.Generator().manual_seed(0)).train(grad).requires_grad_(grad)
    given = _given(family, rows)
    with torch.set_grad_enabled(grad):
        return measured(net, lambda net: family.log_likelihood(net, *given))
