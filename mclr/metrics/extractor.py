"""A trained feature net as a torch-fidelity feature extractor."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from mclr.data.load import Manifest
from mclr.metrics.features import load_feature_net

FEATURES, LOGITS = "features", "logits"


def register(name: str, weights: Path, manifest: Manifest) -> None:
    """Make ``calculate_metrics(feature_extractor=name)`` use the feature net in ``weights``.

    The penultimate layer serves FD, KID, precision and recall; the logits the Inception Score.
    """

    class Extractor(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)
            self.net = load_feature_net(weights, manifest)

        @staticmethod
        def get_provided_features_list() -> tuple[str, str]:
            return FEATURES, LOGITS

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LOGITS if metric == "isc" else FEATURES

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            features, logits = self.net(images)
            return tuple({FEATURES: features, LOGITS: logits}[f] for f in self.features_list)

    register_feature_extractor(name, Extractor)
