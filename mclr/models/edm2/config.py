"""EDM2 in the configuration: architecture, published sizes, training, sampler, and the model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from mclr.errors import UserError
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
    Side,
    check_size,
    plain,
)

SD_VAE = "sd-vae"
"""What a specification calls Stable Diffusion's autoencoder."""


class Edm2Architecture(BaseModel):
    """Shape of one EDM2 denoiser apart from what the data decide; official names and defaults.

    Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models"
    (arXiv 2312.02696), configuration G; names as in NVlabs/edm2 ``Precond`` and ``UNet``.
    Raises ``pydantic.ValidationError`` on an unknown key or an impossible value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_channels: PositiveInt = Field(
        default=192, description="channels of the widest resolution"
    )
    channel_mult: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 3, 4), min_length=1, description="width of each level / model_channels"
    )
    channel_mult_noise: PositiveInt | None = Field(
        default=None,
        description="noise embedding width / model_channels; None = first level's width",
    )
    channel_mult_emb: PositiveInt | None = Field(
        default=None, description="embedding width / model_channels; None = widest level's width"
    )
    num_blocks: PositiveInt = Field(default=3, description="encoder blocks per level")
    attn_resolutions: tuple[PositiveInt, ...] = Field(
        default=(16, 8), description="resolutions with self-attention"
    )
    channels_per_head: PositiveInt = Field(
        default=64, description="attention channels per head; a narrower level gets no attention"
    )
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="drop probability in training")
    label_balance: float = Field(
        default=0.5, ge=0, le=1, description="share of label in the embedding"
    )
    concat_balance: float = Field(
        default=0.5, ge=0, le=1, description="share of the skip in mp_cat"
    )
    res_balance: float = Field(default=0.3, ge=0, le=1, description="share of the residual branch")
    attn_balance: float = Field(
        default=0.3, ge=0, le=1, description="share of the attention branch"
    )
    clip_act: float | None = Field(
        default=256.0, gt=0, description="activations clipped to +-; None = no"
    )
    resample_filter: tuple[float, ...] = Field(
        default=(1, 1), description="1-d filter, even length"
    )
    logvar_channels: PositiveInt = Field(
        default=128, description="Fourier features of log-variance u"
    )
    sigma_data: float = Field(
        default=0.5, gt=0, description="assumed standard deviation of the data"
    )

    @field_validator("resample_filter")
    @classmethod
    def _even_filter(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) == 0 or len(value) % 2 or sum(value) == 0:
            raise ValueError(f"expected an even number of taps with nonzero sum, got {value}")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Edm2Architecture:
        """Two 3×3 convolutions in each block of the encoder."""
        widths = [self.model_channels * mult for mult in self.channel_mult]
        squares = sum(width**2 for width in widths)
        check_size(self.num_blocks * len(widths), 18 * self.num_blocks * squares)
        return self


class Edm2Network(Edm2Architecture):
    """An architecture for images of a given side, channels and number of classes."""

    img_resolution: PositiveInt = Field(description="pixels (or latent cells) per side")
    img_channels: PositiveInt = Field(description="channels of the image or latent")
    label_dim: NonNegativeInt = Field(description="number of classes; 0 = unconditional")
    dial: bool = Field(default=False, description="whether it takes a number beside the label")

    @model_validator(mode="after")
    def _halvings_fit(self) -> Edm2Network:
        factor = 2 ** (len(self.channel_mult) - 1)
        if self.img_resolution % factor:
            raise ValueError(
                f"img_resolution {self.img_resolution} cannot be halved {factor.bit_length() - 1} "
                f"times; use a multiple of {factor} or fewer entries in channel_mult"
            )
        return self


_IMG64 = {"img_resolution": 64, "img_channels": 3, "label_dim": 1000}
_IMG512 = {"img_resolution": 64, "img_channels": 4, "label_dim": 1000}

# Published sizes (NVlabs/edm2 train_edm2.py); img512 nets work on 4 x 64 x 64 latents.
PRESETS: dict[str, dict[str, Any]] = {
    "edm2-img64-s": {**_IMG64, "model_channels": 192, "dropout": 0.0},  # 280,209,381
    "edm2-img512-xs": {**_IMG512, "model_channels": 128, "dropout": 0.0},  # 124,713,253
    "edm2-img512-s": {**_IMG512, "model_channels": 192, "dropout": 0.0},  # 280,212,837
    "edm2-img512-m": {**_IMG512, "model_channels": 256, "dropout": 0.1},  # 497,807,781
    "edm2-img512-l": {**_IMG512, "model_channels": 320, "dropout": 0.1},  # 777,498,085
    "edm2-img512-xl": {**_IMG512, "model_channels": 384, "dropout": 0.1},  # 1,119,283,749
    "edm2-img512-xxl": {**_IMG512, "model_channels": 448, "dropout": 0.1},  # 1,523,164,773
}


def preset(name: str) -> Edm2Network:
    """Architecture of the published network ``name``; UserError lists the names if unknown."""
    if name not in PRESETS:
        raise UserError(f"unknown EDM2 preset {name!r}; choose one of: {', '.join(PRESETS)}")
    return Edm2Network(**PRESETS[name])


class Edm2Base(Section):
    """Training of the EDM2 base model by denoising score matching."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    lr_decay_steps: Count
    rampup_images: Annotated[int, Field(ge=0)]
    label_dropout: Probability
    ema_std: Positive
    label_noise: Probability = 0.0
    """η of Eq. (18): the share of training images whose label is drawn anew, of all classes."""


class Edm2Sampler(Section):
    """Heun's method over ``num_steps`` noise levels: 2·num_steps − 1 evaluations per image."""

    num_steps: Annotated[int, Field(ge=2, le=10_000)]
    sigma_min: Positive
    sigma_max: Positive
    rho: Positive
    S_churn: NonNegative = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Edm2Sampler:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        return self


class AutoencoderArchitecture(Section):
    """A KL autoencoder (diffusers' ``AutoencoderKL``) that halves the side between its levels."""

    channels: Annotated[list[Count], Field(min_length=1)]
    latent_channels: Count
    layers_per_block: Count = 1
    norm_groups: Count = 8

    @model_validator(mode="after")
    def _possible(self) -> AutoencoderArchitecture:
        """Two 3×3 convolutions in each block of the encoder."""
        squares = sum(width**2 for width in self.channels)
        check_size(self.layers_per_block * len(self.channels), 18 * self.layers_per_block * squares)
        return self


class AutoencoderTraining(Section):
    """Squared error of the reconstruction, plus ``kl`` times the KL divergence; both summed."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    kl: NonNegative


class Autoencoder(Section):
    """Images to latents and back, for diffusion models of latents."""

    network: AutoencoderArchitecture
    training: AutoencoderTraining


Edm2Weights = Annotated[Annotated[Edm2Base, Tag(TRAINED)] | FromOthers, ORIGIN]


class Guide(Section):
    """A network of its own that guides the model: CFG's unconditional one, or a weaker one.

    Without ``conditional`` it sees no labels, and what guides is CFG; with them, autoguidance.
    """

    conditional: bool = False
    network: Edm2Architecture
    base: Edm2Weights


class Edm2Model(Section):
    """Diffusion family: EDM2 U-Net, one-draw denoising likelihood surrogate.

    With an ``autoencoder`` it is a model of latents: of one that is trained here, or of Stable
    Diffusion's, released. Without a ``guide`` its own null label guides.
    """

    family: Literal["edm2"]
    label: Label
    resolution: Side | None = None
    """Side of the images, to which the data are averaged down; the data's own if absent."""
    transform: Transform | None = None
    """Of the images that a model of latents learns from, if not ``data.transform``."""
    autoencoder: Annotated[Annotated[Autoencoder, Tag(TRAINED)] | FromOthers, ORIGIN] | None = None
    network: Edm2Architecture
    base: Edm2Weights
    guide: Guide | None = None
    noise: NoiseLevels
    sampler: Edm2Sampler
    guidance: Scales
    precision: Precision = "float32"
    decoding: Decoding | None = None
    """Of released latents, float32 if absent; others are decoded in ``precision``."""

    @model_validator(mode="after")
    def _decodes(self) -> Edm2Model:
        if self.decoding and not isinstance(self.autoencoder, Released):
            raise ValueError(
                "decoding is for the latents of a released autoencoder; one that is trained here "
                "decodes in the model's precision, and pixels need no decoder: remove decoding"
            )
        return self

    guided_by: ClassVar[frozenset[str]] = frozenset({"null", "network", "interval"})
    has_dial: ClassVar[bool] = True
    """Whether a network can be given a dial, as ``Family.has_dial``."""
    released_null_label: ClassVar[bool] = False
    """Whether released weights know the null label. EDM2's own recipes drop no labels."""
    implementation: ClassVar[None] = None
    """Its code is in this package."""

    def architecture(self) -> dict[str, Any]:
        """Section ``network`` of a specification."""
        network = {"family": self.family, **plain(self.network)}
        if isinstance(self.autoencoder, Released):
            network["autoencoder"] = SD_VAE
        elif self.autoencoder:
            network["autoencoder"] = plain(self.autoencoder.network)
        return network

    def guide_architecture(self) -> dict[str, Any]:
        """The same of the network that guides; UserError without one."""
        if self.guide is None:
            raise UserError(f"models: {self.label} has no guide")
        network = self.architecture() | plain(self.guide.network)
        return network if self.guide.conditional else network | {"unconditional": True}

    @property
    def coder(self) -> AutoencoderTraining | Released | None:
        """How its autoencoder is trained or taken over; None for pixels."""
        inner = self.autoencoder
        return inner.training if isinstance(inner, Autoencoder) else inner

    @property
    def has_coder(self) -> bool:
        """Whether images become something else before the network sees them."""
        return self.autoencoder is not None

    def coder_spec(self) -> dict[str, Any]:
        """What its autoencoder's job needs to know; UserError for pixels."""
        if self.autoencoder is None:
            raise UserError(f"models: {self.label} is a model of pixels, without an autoencoder")
        return {"autoencoder": plain(self.autoencoder), "precision": self.precision}

    @property
    def releases(self) -> dict[str, Released]:
        """The published files it is made of, by role."""
        guide = self.guide.base if self.guide else None
        return released_parts(base=self.base, guide=guide, tokenizer=self.autoencoder)

    def nfe_of(self, guided: bool, interval: tuple[float, float] | None = None) -> int:
        """Network evaluations per image (NFE): 2·steps − 1 of Heun.

        Guidance doubles them, as the paper counts; within an interval, those at its noise levels.
        """
        return heun_nfe(self.sampler, guided, interval)


def heun_nfe(sampler: Edm2Sampler, guided: bool, interval: tuple[float, float] | None) -> int:
    """Evaluations of an image; see ``Edm2Model.nfe_of``."""
    single = 2 * sampler.num_steps - 1
    if not guided or interval is None:
        return single * (2 if guided else 1)
    low, high = interval
    # Every level but the first is evaluated twice: at the end of a step and the next start.
    levels = enumerate(heun_levels(sampler))
    return single + sum((2 if i else 1) for i, s in levels if low <= s <= high)


# Karras et al. 2022, Eq. 5; the last step to 0 has no second evaluation.
def heun_levels(sampler: Edm2Sampler) -> list[float]:
    """Noise levels of the sampler, from sigma_max to sigma_min."""
    top, bottom = sampler.sigma_max ** (1 / sampler.rho), sampler.sigma_min ** (1 / sampler.rho)
    last = sampler.num_steps - 1
    return [float((top + i / last * (bottom - top)) ** sampler.rho) for i in range(last + 1)]
