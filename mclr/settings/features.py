"""Feature nets: what FD, precision, recall and Inception Score are measured with, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mclr.settings.origin import Released
from mclr.settings.section import Count, Name, Positive, Section, Seed

LabelScheme = Literal["balanced", "random", "proportional"]
"""Classes of sampled images: as many of each, drawn uniformly, or as in the reference."""


def _kind(value: Any) -> str:
    """A feature net is a classifier unless it says otherwise."""
    if isinstance(value, dict):
        return str(value.get("kind", "classifier"))
    return str(getattr(value, "kind", "classifier"))


class ClassifierFeatures(Section):
    """A classifier trained on the training split: penultimate layer and logits are the features."""

    kind: Literal["classifier"] = "classifier"
    channels: Annotated[int, Field(ge=1, le=4096)]
    dimensions: Annotated[int, Field(ge=1, le=2**15)]
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


class PublishedFeatures(Released):
    """A published net with fixed weights, and published moments of real images for FD.

    ``statistics``: for each side of the images, the file that FD compares with; where it names
    none, FD compares with the reference images, as precision and recall always do.
    """

    statistics: dict[Count, str] = Field(default={})
    seed: Seed = 0
    """Of the choice of real images for the row that tells what a metric gives for these."""


class InceptionFeatures(PublishedFeatures):
    """Inception-v3 of 2015: FID's 2,048 features, Inception Score's 1,008 logits."""

    kind: Literal["inception"]


class Dinov2Features(PublishedFeatures):
    """DINOv2 ViT-L/14: the 1,024 features of FD_DINOv2; no logits."""

    kind: Literal["dinov2"]
    resize: Literal["torch", "pil"] = "torch"
    """EDM2's bicubic on tensors, or Pillow's, which is dgm-eval's."""
    side: Count = 224
    network: dict[Literal["width", "depth", "heads", "patch", "grid"], Count] | None = None
    """Sizes of another vision transformer; ViT-L/14 if absent."""


FeatureNet = Annotated[
    Annotated[ClassifierFeatures, Tag("classifier")]
    | Annotated[EfficientNetFeatures, Tag("efficientnet-lite0")]
    | Annotated[InceptionFeatures, Tag("inception")]
    | Annotated[Dinov2Features, Tag("dinov2")],
    Discriminator(_kind),
]


class Protocol(Section):
    """What numbers must have in common to be compared, beside the files they come from."""

    isc_features: Name
    isc_splits: Count
    labels: LabelScheme
    n_samples: Annotated[int, Field(ge=2)]
    neighbourhood: Count
