"""What each kind of job is told: one type each, made by ``mclr.planning.plan``, read by the job.

A specification travels as JSON on the command line. Its text is what Snakemake remembers of a job
and what keys its training state, so a key that has no value is absent from it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)
from pydantic import Tag as Tagged

from mclr.config.base import Count, Section, Seed, canonical
from mclr.config.data import Transform
from mclr.config.models import (
    Autoencoder,
    AutoencoderArchitecture,
    Decoding,
    Edm2Base,
    Edm2Sampler,
    NoiseLevels,
    OwnBase,
    Precision,
    Tokenizer,
    VarBase,
    VarSampler,
)
from mclr.config.objectives import FineTuning
from mclr.config.released import Released
from mclr.config.tier import Protocol
from mclr.models.edm2.config import Edm2Architecture
from mclr.models.var.config import VarArchitecture, VqvaeArchitecture


class _OnlySet(BaseModel):
    """Its JSON holds the keys that were given, in order, and no defaults."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        given = {fields[name].alias or name for name in self.model_fields_set}
        return {key: value for key, value in content.items() if key in given}


class Spec(_OnlySet, Section):
    """A specification: no key may be unknown, and none changes once it is made."""

    def content(self) -> dict[str, Any]:
        """As plain values, with sorted keys: what is written beside results."""
        content: dict[str, Any] = json.loads(canonical(self))
        return content

    def with_(self, **changes: Any) -> Self:
        """This specification with other values; they are checked."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(given | changes)


class Edm2Spec(_OnlySet, Edm2Architecture):
    """A denoiser: of pixels, or of an autoencoder's latents; ``unconditional``: without labels."""

    family: Literal["edm2"]
    autoencoder: AutoencoderArchitecture | Literal["sd-vae"] | None = None
    unconditional: bool = False


class VarSpec(_OnlySet, VarArchitecture):
    """A next-scale transformer and the tokenizer whose tokens it models."""

    family: Literal["var"]
    tokenizer: VqvaeArchitecture


class OwnSpec(Spec):
    """A network of somebody's own family, and the sha256 of the file that has its code."""

    family: Literal["own"]
    implementation: str
    options: dict[str, bool | int | float | str]
    sha256: str


Network = Annotated[Edm2Spec | VarSpec | OwnSpec, Field(discriminator="family")]


class ModelSpec(Spec):
    """A network, and what a job needs to compute with it; what a job does not need is absent."""

    network: Network
    precision: Precision
    noise: NoiseLevels | None = None
    sampler: Edm2Sampler | VarSampler | None = None
    decoding: Decoding | None = None


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
    base: Edm2Base | VarBase | OwnBase | Released


class FineTuningRun(FineTuning):
    """One run of an experiment: nothing is left to sweep."""

    @model_serializer(mode="wrap")
    def _start(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key != "from" or value}


class FinetuneSpec(ModelSpec):
    """Fine-tuning with one objective and one seed."""

    identity: Identity
    run: FineTuningRun
    seed: Seed


class NegativesSpec(ModelSpec):
    """Samples of what DDO's runs start from."""

    n_negatives: Annotated[int, Field(ge=0)]
    batch: Count


class SampleSpec(ModelSpec):
    """The samples of one point. ``guidance`` None: the selected scale.

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
    labels: Literal["balanced", "random"]
    grid_rows: Count
    grid_classes: list[int] | None = None


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
    given = value if isinstance(value, dict) else type(value).model_fields
    return "pixels" if "pixels" in given else "model"


ENCODING: TypeAdapter[EncodeSpec | PixelsSpec] = TypeAdapter(
    Annotated[
        Annotated[EncodeSpec, Tagged("model")] | Annotated[PixelsSpec, Tagged("pixels")],
        Discriminator(_is_pixels),
    ]
)
