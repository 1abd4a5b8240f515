"""Architecture of an EDM2 network: every number that shapes it, and the published sizes."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from mclr.errors import UserError


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


class Edm2Network(Edm2Architecture):
    """An architecture for images of a given side, channels and number of classes."""

    img_resolution: PositiveInt = Field(description="pixels (or latent cells) per side")
    img_channels: PositiveInt = Field(description="channels of the image or latent")
    label_dim: NonNegativeInt = Field(description="number of classes; 0 = unconditional")

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
