"""Small or random nets in files laid out as the published ones."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mclr.metrics.vit import Vit, VitConfig

TINY_VIT = VitConfig(width=12, depth=2, heads=3, patch=7, grid=4)


def random_vit(config: VitConfig = TINY_VIT) -> dict[str, Tensor]:
    """State of a transformer in which every parameter matters."""
    generator = torch.Generator().manual_seed(0)
    state = Vit(config).state_dict()
    return {
        name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()
    }


class Skeleton(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """The library's layers, without weights from a file."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        pass


def random_inception(path: Path) -> None:
    """Inception weights that keep the signal's size, in a file like the published one."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    net = Skeleton("inception-v3-compat", ["2048"], nothing)
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    nn.init.normal_(net.fc.bias, generator=generator)
    torch.save(net.state_dict(), path)
