"""Models of family diffusers in the configuration: training, sampler, and the model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from mclr.errors import UserError
from mclr.models.diffusers.architecture import (
    KL,
    PIXEL_STD,
    SCALED_STD,
    Architecture,
    DitArchitecture,
    Scheduler,
    UnetArchitecture,
)
from mclr.models.edm2.config import Edm2Sampler, heun_nfe
from mclr.settings.data import Transform
from mclr.settings.origin import ORIGIN, TRAINED, FromOthers, Released, released_parts
from mclr.settings.section import (
    Count,
    Decoding,
    Label,
    NoiseLevels,
    NonNegative,
    Positive,
    Precision,
    Probability,
    Scales,
    Section,
    Seed,
    plain,
)


class DiffusersBase(Section):
    """Training by squared error of the prediction: AdamW, warm-up, linear decay, an average."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    label_dropout: Probability
    ema_std: Positive


class SchedulerSampler(Section):
    """The model's own scheduler: one evaluation a step."""

    kind: Literal["scheduler"]
    num_steps: Count


def _sampler_of(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "scheduler" if kind else "heun"


DiffusersSampler = Annotated[
    Annotated[Edm2Sampler, Tag("heun")] | Annotated[SchedulerSampler, Tag("scheduler")],
    Discriminator(_sampler_of),
]


class DiffusersModel(Section):
    """Diffusion family: a network in diffusers' layout, one-draw denoising likelihood surrogate.

    Of a released ``base`` whose folder is there, network, scheduler and autoencoder are taken from
    the folder, if ``network`` is not said. Its own null label guides.
    """

    family: Literal["diffusers"]
    label: Label
    resolution: Count | None = None
    """Side of the images, to which the data are averaged down; the data's own if absent."""
    transform: Transform | None = None
    """Of the images that a model of latents learns from, if not ``data.transform``."""
    autoencoder: Released | None = None
    """A folder with diffusers' ``AutoencoderKL``; pixels if absent."""
    network: Architecture | None = None
    scheduler: Scheduler | None = None
    base: Annotated[Annotated[DiffusersBase, Tag(TRAINED)] | FromOthers, ORIGIN]
    noise: NoiseLevels
    sampler: DiffusersSampler
    guidance: Scales
    precision: Precision = "float32"
    decoding: Decoding | None = None
    """Of latents, float32 if absent."""
    sigma_data: Positive | None = None
    """σ_d of w(σ), Eq. (150); 1 of latents and 0.5 of pixels, if absent."""

    implementation: ClassVar[None] = None
    """Its code is in this package."""

    @property
    def guided_by(self) -> frozenset[str]:
        """What can guide it. The levels of a scheduler's steps, diffusers alone knows."""
        interval = {"interval"} if isinstance(self.sampler, Edm2Sampler) else set()
        return frozenset({"null", "network"} | interval)

    @model_validator(mode="after")
    def _whole(self) -> DiffusersModel:
        if (self.network is None) != (self.scheduler is None):
            raise ValueError("network and scheduler: expected both, or neither and a folder's own")
        if self.network is None and not isinstance(self.base, Released):
            raise ValueError("network and scheduler: required keys of a base that is trained here")
        if isinstance(self.base, DiffusersBase) and self.base.label_dropout and not self._has_null:
            raise ValueError("base.label_dropout: needs network.null_label; set it to 0")
        if self.guidance and not self._has_null:
            raise ValueError("guidance: needs network.null_label; set it to []")
        return self

    @property
    def _has_null(self) -> bool:
        return self.network is None or getattr(self.network, "null_label", True)

    @property
    def parts(self) -> tuple[DitArchitecture | UnetArchitecture, Scheduler]:
        """Network and scheduler, as said or as the folder has them; UserError if it is gone."""
        if self.network is not None and self.scheduler is not None:
            return self.network, self.scheduler
        from mclr.models.diffusers.folder import find_folder, read_network, read_scheduler

        folder = find_folder(self._folder)
        return read_network(folder)[0], read_scheduler(folder)

    @property
    def _folder(self) -> str:
        if not isinstance(self.base, Released):
            raise ValueError(f"{self.label} is trained here, of no folder")
        return self.base.released

    has_dial: ClassVar[bool] = False
    """Whether a network can be given a dial: it would no longer be one that diffusers loads."""

    @property
    def released_null_label(self) -> bool:
        """Whether the network has an embedding for the null label."""
        return bool(getattr(self.parts[0], "null_label", True))

    @property
    def guide(self) -> None:
        """No network of its own guides it."""

    def architecture(self) -> dict[str, Any]:
        """Section ``network`` of a specification; UserError if a folder is needed and gone."""
        network, scheduler = self.parts
        content = {"family": self.family, "model": plain(network), "scheduler": plain(scheduler)}
        if self.has_coder:
            content["autoencoder"] = KL
        return content | {"sigma_data": self.data_std}

    @property
    def data_std(self) -> float:
        """σ_d."""
        return self.sigma_data or (SCALED_STD if self.has_coder else PIXEL_STD)

    def guide_architecture(self) -> dict[str, Any]:
        """UserError: see ``guide``."""
        raise UserError(f"models: {self.label} has no guide")

    @property
    def coder(self) -> Released | None:
        """Its autoencoder: the one that is named, or that of the base's folder."""
        if self.autoencoder is not None or self.network is not None:
            return self.autoencoder
        from mclr.models.diffusers.folder import VAE, find_folder

        own = self._folder
        return Released(released=own) if (find_folder(own) / VAE).is_dir() else None

    @property
    def has_coder(self) -> bool:
        """Whether images become something else before the network sees them."""
        return self.coder is not None

    def coder_spec(self) -> dict[str, Any]:
        """UserError: an autoencoder is taken over, not trained."""
        raise UserError(f"models: {self.label}: its autoencoder is released by others")

    @property
    def releases(self) -> dict[str, Released]:
        """The published files it is made of, by role."""
        from mclr.models.diffusers.folder import VAE, weights_of

        found = released_parts(base=self.base, tokenizer=self.coder)
        places = {"base": self.parts[0].part, "tokenizer": VAE}
        return {
            role: Released(released=weights_of(part.released, places[role]))
            for role, part in found.items()
        }

    def nfe_of(self, guided: bool, interval: tuple[float, float] | None = None) -> int:
        """Network evaluations per image (NFE): one a step, or 2·steps − 1 of Heun.

        Guidance doubles them, as the paper counts; within an interval, those at its noise levels.
        """
        if isinstance(self.sampler, Edm2Sampler):
            return heun_nfe(self.sampler, guided, interval)
        if guided and interval is not None:
            raise UserError(f"models: {self.label}: NFE of an interval are known of Heun alone")
        return self.sampler.num_steps * (2 if guided else 1)
