"""What one image costs a family of one's own: its likelihood is computed once, on a processor.

Such code may do anything, so unlike the other networks it is given real tensors.
"""

from __future__ import annotations

from functools import cache

import torch

from mclr.config.base import canonical
from mclr.config.models import Model
from mclr.cost.trace import Trace, measured, parameters
from mclr.data.load import Manifest
from mclr.device import CPU
from mclr.models.own.config import OwnModel
from mclr.models.own.family import OwnFamily, own_family
from mclr.models.spec import ModelSpec


def own_size(model: Model, manifest: Manifest) -> int:
    """Parameters of the network of one's own family."""
    family = _family(model, manifest)
    return parameters(family.build(torch.Generator().manual_seed(0)))


def own_pass(model: Model, manifest: Manifest, rows: int, grad: bool) -> Trace:
    """A likelihood of ``rows`` images by one's own family."""
    shape = (manifest.channels, manifest.resolution, manifest.num_classes)
    return _pass(canonical(model), shape, rows, grad)


def _family(model: Model, manifest: Manifest) -> OwnFamily:
    if not isinstance(model, OwnModel):
        raise ValueError(f"{model.family} is no family of one's own")
    about = {"network": model.architecture(), "precision": model.precision}
    return own_family(ModelSpec.model_validate(about), manifest, CPU)


@cache
def _pass(text: str, shape: tuple[int, int, int], rows: int, grad: bool) -> Trace:
    family = _family(OwnModel.model_validate_json(text), Manifest(*shape, (), {}))
    generator = torch.Generator().manual_seed(0)
    net = family.build(generator).train(grad).requires_grad_(grad)
    images = torch.zeros(rows, *family.manifest.shape, dtype=torch.uint8)
    x = family.from_encoded(family.encode(images), generator)
    labels, draw = torch.zeros(rows, dtype=torch.int64), family.draw(x, generator)
    with torch.set_grad_enabled(grad):
        return measured(net, lambda net: family.log_likelihood(net, x, labels, draw))
