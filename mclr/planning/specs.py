"""What each kind of job is told: one type each, made by ``mclr.planning.plan``, read by the job.

A specification travels as JSON on the command line. Its text is what Snakemake remembers of a job
and what keys its training state, so a key that has no value is absent from it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)
from pydantic import Tag as Tagged

from mclr.config.objectives import FineTuning
from mclr.models.diffusers.config import DiffusersBase
from mclr.models.edm2.config import Autoencoder, Edm2Base
from mclr.models.own.config import OwnBase
from mclr.models.spec import ModelSpec, Network
from mclr.models.var.config import Tokenizer, VarBase
from mclr.settings.data import Transform
from mclr.settings.features import LabelScheme, Protocol
from mclr.settings.origin import Released
from mclr.settings.section import Count, Precision, Section, Seed, Spec


class EncodeSpec(ModelSpec):
    """What encodes, or takes over, the images that a model learns from."""

    transform: Transform | None = None


class PixelsSpec(Spec):
    """Plain pixels, for all models of pixels of a resolution."""

    pixels: Literal["uint8"]
    transform: None = None


PIXELS = PixelsSpec(pixels="uint8")


class TokenizerSpec(Spec):
    """Training of a VQ-VAE, or of an autoencoder with its number type."""

    tokenizer: Tokenizer | None = None
    autoencoder: Autoencoder | None = None
    precision: Precision = "float32"
    transform: Transform | None = None


class Identity(Section):
    """What a run is called, for its provenance."""

    experiment: str
    hyperparameters: dict[str, JsonValue]
    method: str
    model: str
    seed: Seed


class BaseSpec(ModelSpec):
    """Training, or taking over, of a base model or of the network that guides one."""

    identity: Identity
    base: Edm2Base | VarBase | DiffusersBase | OwnBase | Released


class FineTuningRun(FineTuning):
    """One run of an experiment: nothing is left to sweep."""

    @model_serializer(mode="wrap")
    def _start(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key != "from" or value}


class FinetuneSpec(ModelSpec):
    """Fine-tuning with one objective and one seed.

    guide_network: what guides the base model, where the objective learns from its guidance and
    that is a network of its own.
    """

    identity: Identity
    run: FineTuningRun
    seed: Seed
    objective_sha256: str = ""
    """Of the file of an objective of somebody's own."""
    guide_network: Network | None = None


class NegativesSpec(ModelSpec):
    """Samples of what DDO's runs start from."""

    n_negatives: Annotated[int, Field(ge=0)]
    batch: Count


class SampleSpec(ModelSpec):
    """The samples of one point. ``guidance`` None: the selected scale. ``beta``: where the dial of
    the network stands, if it has one; the selected value if absent.

    guide: what guides, "null" label, "base" model, or a "net" of the model's own, which is then
    ``guide_network``. interval: noise levels outside which nothing does. dial: see
    ``mclr.planning.points.Point``.
    """

    guidance: float | None
    guide: Literal["null", "base", "net"]
    guide_network: Network | None = None
    interval: tuple[float, float] | None
    dial: float
    seed: Seed
    n_samples: Count
    batch: Count
    shards: Count
    labels: LabelScheme
    grid_rows: Count
    grid_classes: list[int] | None = None
    beta: float | None = None


class PlannedPoint(Section):
    """A point's folder and its columns in ``metrics.parquet``; None where a selection decides."""

    checkpoint: str
    dial: float
    guidance: float | None
    hyperparameters: dict[str, JsonValue]
    method: str
    model: str
    nfe: int
    path: str
    run_id: str
    seed: Seed
    stage: str
    step: int | None


class EvaluateSpec(Spec):
    """Protocol and points of an evaluation."""

    tier: str
    evaluation: Protocol
    shards: Count
    points: list[PlannedPoint]


class FloorsSpec(Spec):
    """Protocol, and the models whose images the feature nets see."""

    tier: str
    evaluation: Protocol
    models: list[str]


class SeparationSpec(ModelSpec):
    """How a base model tells the classes of ``n_images`` of each kind apart.

    draws: M draws of the noise; others: labels that each image's own is compared with.
    """

    model: str
    features: str
    batch: Count
    n_images: Count
    draws: Count
    others: Count


def _is_pixels(value: Any) -> str:
    given = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return "pixels" if "pixels" in given else "model"


ENCODING: TypeAdapter[EncodeSpec | PixelsSpec] = TypeAdapter(
    Annotated[
        Annotated[EncodeSpec, Tagged("model")] | Annotated[PixelsSpec, Tagged("pixels")],
        Discriminator(_is_pixels),
    ]
)
