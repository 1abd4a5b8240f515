"""Feature nets: what FD, precision, recall and Inception Score are measured with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mclr.config.base import Count, Positive, Section, Seed


def _kind(value: Any) -> str:
    """A feature net is a classifier unless it says otherwise."""
    if isinstance(value, dict):
        return str(value.get("kind", "classifier"))
    return str(getattr(value, "kind", "classifier"))


class ClassifierFeatures(Section):
    """A classifier trained on the training split: penultimate layer and logits are the features."""

    kind: Literal["classifier"] = "classifier"
    channels: Count
    dimensions: Count
    steps: Count
    batch: Count
    lr: Positive
    seed: Seed


class EfficientNetFeatures(Section):
    """EfficientNet-Lite0, trained on ImageNet: pooled features of images resized to ``size``.

    A linear probe, trained on the training split, gives the logits.
    """

    kind: Literal["efficientnet-lite0"]
    size: Annotated[int, Field(ge=32)]
    probe_images: Count
    seed: Seed


FeatureNet = Annotated[
    Annotated[ClassifierFeatures, Tag("classifier")]
    | Annotated[EfficientNetFeatures, Tag("efficientnet-lite0")],
    Discriminator(_kind),
]
