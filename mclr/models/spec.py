"""What a job is told of a model: its network, and what it needs to compute with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mclr.config.base import OnlySet, Spec
from mclr.config.models import (
    AutoencoderArchitecture,
    Decoding,
    Edm2Sampler,
    NoiseLevels,
    Precision,
    VarSampler,
)
from mclr.models.edm2.config import Edm2Architecture
from mclr.models.var.config import VarArchitecture, VqvaeArchitecture


class Edm2Spec(OnlySet, Edm2Architecture):
    """A denoiser: of pixels, or of an autoencoder's latents; ``unconditional``: without labels."""

    family: Literal["edm2"]
    autoencoder: AutoencoderArchitecture | Literal["sd-vae"] | None = None
    unconditional: bool = False


class VarSpec(OnlySet, VarArchitecture):
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
