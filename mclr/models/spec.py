"""What a job is told of a model: its network, and what it needs to compute with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mclr.models.diffusers.architecture import Architecture, Scheduler
from mclr.models.diffusers.config import SchedulerSampler
from mclr.models.edm2.config import AutoencoderArchitecture, Edm2Architecture, Edm2Sampler
from mclr.models.var.config import VarArchitecture, VarSampler, VqvaeArchitecture
from mclr.settings.section import Decoding, NoiseLevels, OnlySet, Positive, Precision, Spec


class Edm2Spec(OnlySet, Edm2Architecture):
    """A denoiser: of pixels, or of an autoencoder's latents; ``unconditional``: without labels.

    dial: whether it takes a number beside the label (``mclr.models.dial``).
    """

    family: Literal["edm2"]
    autoencoder: AutoencoderArchitecture | Literal["sd-vae"] | None = None
    unconditional: bool = False
    dial: bool = False


class VarSpec(OnlySet, VarArchitecture):
    """A next-scale transformer and the tokenizer whose tokens it models; ``dial`` as of EDM2."""

    family: Literal["var"]
    tokenizer: VqvaeArchitecture
    dial: bool = False


class DiffusersSpec(Spec):
    """A network of diffusers with its schedule: of pixels, or of a folder's latents."""

    family: Literal["diffusers"]
    model: Architecture
    scheduler: Scheduler
    autoencoder: Literal["kl"] | None = None
    sigma_data: Positive


class OwnSpec(Spec):
    """A network of somebody's own family, and the sha256 of the file that has its code.

    A model folder names no code: whoever loads it gives the class.
    """

    family: Literal["own"]
    implementation: str | None = None
    options: dict[str, bool | int | float | str] = Field(default={})
    sha256: str | None = None


Network = Annotated[Edm2Spec | VarSpec | DiffusersSpec | OwnSpec, Field(discriminator="family")]


class ModelSpec(Spec):
    """A network, and what a job needs to compute with it; what a job does not need is absent."""

    network: Network
    precision: Precision
    noise: NoiseLevels | None = None
    sampler: Edm2Sampler | VarSampler | SchedulerSampler | dict[str, float] | None = None
    decoding: Decoding | None = None
