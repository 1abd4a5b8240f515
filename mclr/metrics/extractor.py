"""Feature nets as torch-fidelity feature extractors, so that its own commands give our numbers.

Each ``register_*`` returns the name for ``calculate_metrics(feature_extractor=name)``. The name
holds the resize and the hash of the weights: torch-fidelity's caches, which go by that name, never
mix two nets. Registering the same net again is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import sha256
from mclr.metrics.dinov2 import load_dinov2
from mclr.metrics.features import load_feature_net
from mclr.metrics.inception import load_inception

FEATURES, LOGITS = "features", "logits"


def register_classifier(weights: Path, manifest: Manifest) -> str:
    """Register a feature net trained by the pipeline; images as they are."""
    return _register("classifier", "none", weights, lambda: load_feature_net(weights, manifest))


def register_dinov2(weights: Path, resize: str) -> str:
    """Register DINOv2 ViT-L/14 with EDM2's resize; there are no logits, hence no IS."""
    return _register(
        "dinov2-vitl14", resize, weights, lambda: load_dinov2(weights, resize), logits=False
    )


def register_inception(weights: Path) -> str:
    """Register torch-fidelity's Inception-v3 with weights from a local file."""
    return _register("inception-v3", "tensorflow1", weights, lambda: load_inception(weights))


def _register(
    kind: str, resize: str, weights: Path, load: Callable[[], nn.Module], logits: bool = True
) -> str:
    """Features and logits in float64, as ``mclr.metrics.scores`` has them."""
    net = load()
    name = f"mclr-{kind}-{resize}-{sha256(weights)[:16]}"
    provided = (FEATURES, LOGITS) if logits else (FEATURES,)

    class Extractor(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)
            self.net = net

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return provided

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            if metric == "isc" and not logits:
                raise UserError(f"{name}: no Inception Score, the net has no logits; leave isc out")
            return LOGITS if metric == "isc" else FEATURES

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = dict(zip((FEATURES, LOGITS), self.net(images), strict=True))
            return tuple(found[layer].double() for layer in self.features_list)

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(name, Extractor)
    return name
