"""What one image costs each feature net, and how large nets and features are."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mclr.metrics.classifier import Classifier
from mclr.metrics.vit import VIT_L_14, Vit, VitConfig
from mclr.models.trace import parameters, trace
from mclr.settings.features import (
    ClassifierFeatures,
    Dinov2Features,
    EfficientNetFeatures,
    InceptionFeatures,
    PublishedFeatures,
)

Settings = ClassifierFeatures | EfficientNetFeatures | InceptionFeatures | Dinov2Features

INCEPTION_FEATURES, INCEPTION_LOGITS = 2048, 1008


def feature_macs(settings: Settings, channels: int, side: int, classes: int) -> int:
    """Multiply-adds of a feature net on one image."""
    if isinstance(settings, Dinov2Features):
        return _vit(_vit_config(settings), settings.side)[0]
    if isinstance(settings, InceptionFeatures):
        return _inception()[0]
    return _trained(settings, (1, channels, side, side), classes)


def dimensions(settings: Settings) -> int:
    """Features of an image by a feature net."""
    if isinstance(settings, ClassifierFeatures):
        return settings.dimensions
    if isinstance(settings, InceptionFeatures):
        return INCEPTION_FEATURES
    if isinstance(settings, Dinov2Features):
        return _vit_config(settings).width
    from mclr.metrics.efficientnet import DIMENSIONS

    return DIMENSIONS


def logits(settings: Settings, classes: int) -> int:
    """Logits of an image by a feature net."""
    if isinstance(settings, Dinov2Features):
        return 0
    return INCEPTION_LOGITS if isinstance(settings, InceptionFeatures) else classes


def published_parameters(settings: PublishedFeatures) -> int:
    """Numbers in the weights of a net that is taken over."""
    if isinstance(settings, Dinov2Features):
        return _vit(_vit_config(settings), settings.side)[1]
    return _inception()[1]


def _vit_config(settings: Dinov2Features) -> VitConfig:
    return VitConfig(**settings.network) if settings.network else VIT_L_14


@cache
def _trained(
    settings: ClassifierFeatures | EfficientNetFeatures, images: tuple[int, ...], classes: int
) -> int:
    def make() -> nn.Module:
        if isinstance(settings, ClassifierFeatures):
            return Classifier(images[1], settings.channels, settings.dimensions, classes)
        from mclr.metrics.efficientnet import EfficientNetLite0

        return EfficientNetLite0(settings.size, classes)

    return trace(make, lambda net: net(torch.zeros(images, dtype=torch.uint8))).macs


@cache
def _vit(config: VitConfig, side: int) -> tuple[int, int]:
    """Multiply-adds of an image, parameters."""
    # All blocks are alike, so depths 1 and 2 tell the cost of any. Plain attention: the counter
    # does not know the fused one of CPUs.
    found = []
    for depth in (1, 2):
        sizes = {**vars(config), "depth": depth}

        def make(sizes: dict[str, int] = sizes) -> Vit:
            return Vit(VitConfig(**sizes))

        with torch.device("meta"):
            size = parameters(make())
        with sdpa_kernel(SDPBackend.MATH):
            found.append((trace(make, lambda net: net(torch.empty(1, 3, side, side))).macs, size))
    (macs, size), (more_macs, more_size) = found
    more = config.depth - 1
    return macs + more * (more_macs - macs), size + more * (more_size - size)


@cache
def _inception() -> tuple[int, int]:
    """Multiply-adds of an image, parameters; of torch-fidelity's layers without their weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Layers(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Nothing to load."""

    def make() -> nn.Module:
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        net: nn.Module = Layers("inception-v3-compat", ["2048", "logits_unbiased"], nothing)
        return net

    with torch.device("meta"):
        size = parameters(make())
    images = (1, 3, 299, 299)
    return trace(make, lambda net: net(torch.zeros(images, dtype=torch.uint8))).macs, size
