"""VAR in the configuration: tokenizer, transformer, published sizes, training, and the model.

Source: Tian et al., "Visual Autoregressive Modeling" and its released models (MIT).
"""

from __future__ import annotations

import operator
from itertools import accumulate, pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag, field_validator, model_validator

from mclr.errors import UserError
from mclr.settings.data import Transform
from mclr.settings.origin import ORIGIN, TRAINED, FromOthers, Released, released_parts
from mclr.settings.section import (
    Count,
    Decoding,
    Label,
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

PatchNums = tuple[int, ...]
MOST_TOKENS = 2**14
"""Of an image: attention has a mask of this number squared."""
PATCH_NUMS_256: PatchNums = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
PATCH_NUMS_512: PatchNums = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


def scale_spans(patch_nums: PatchNums) -> list[tuple[int, int]]:
    """First and one-past-last position of each scale's tokens in the sequence of length L."""
    ends = list(accumulate(p * p for p in patch_nums))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _checked_patch_nums(patch_nums: PatchNums) -> PatchNums:
    """Two or more scales: guidance and phi positions are fractions si / (S - 1)."""
    growing = all(small <= large for small, large in pairwise(patch_nums))
    if len(patch_nums) < 2 or min(patch_nums) < 1 or not growing:
        raise ValueError(
            f"patch_nums {patch_nums}: expected at least two positive sides, none smaller than "
            "the one before, for example [1, 2, 3, 4]"
        )
    if (tokens := sum(side**2 for side in patch_nums)) > MOST_TOKENS:
        raise ValueError(
            f"patch_nums: {tokens:,} tokens an image; expected at most {MOST_TOKENS:,}"
        )
    return patch_nums


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VqvaeArchitecture(_Frozen):
    """Multi-scale residual VQ-VAE, all but what the data decide; defaults as released.

    The latent side is image side / 2^(len(ch_mult) - 1) and must equal patch_nums[-1].
    """

    vocab_size: int = Field(default=4096, ge=1, le=2**20)
    z_channels: int = Field(default=32, ge=1)
    ch: int = Field(default=160, ge=1)
    ch_mult: tuple[int, ...] = Field(default=(1, 1, 2, 2, 4), min_length=1)
    num_res_blocks: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    using_sa: bool = True  # attention beside each residual block of the lowest level
    using_mid_sa: bool = True  # attention between the two middle blocks
    quant_resi: float = Field(default=0.5, gt=0.0, le=1.0)  # r of phi(h) = (1 - r) h + r conv(h)
    share_quant_resi: int = Field(default=4, ge=1)  # phi convolutions, shared by the scales
    patch_nums: PatchNums = PATCH_NUMS_256
    beta: float = Field(default=0.25, ge=0.0)  # weight of the commitment loss
    # Of official files that are not as released. Specifications are as if these two were not there.
    quant_conv_ks: Literal[1, 3] = Field(default=3, exclude_if=lambda side: side == 3)
    using_znorm: bool = Field(default=False, exclude_if=operator.not_)  # nearest code by its angle

    _patch_nums = field_validator("patch_nums")(_checked_patch_nums)

    @model_validator(mode="after")
    def _widths_fit_group_norm(self) -> VqvaeArchitecture:
        for mult in self.ch_mult:
            if mult < 1 or (self.ch * mult) % norm_groups(self.ch * mult):
                raise ValueError(
                    f"ch {self.ch} x ch_mult {mult}: expected a positive width of at most 32, "
                    "or a multiple of 32 (group normalisation has 32 groups)"
                )
        squares = sum((self.ch * mult) ** 2 for mult in self.ch_mult)
        check_size(self.num_res_blocks * len(self.ch_mult), 18 * self.num_res_blocks * squares)
        return self

    @property
    def downsampling(self) -> int:
        """Image pixels per latent pixel along one side."""
        return 1 << (len(self.ch_mult) - 1)


class VqvaeConfig(VqvaeArchitecture):
    """A tokenizer for images of ``img_channels``; the released one has 108,948,355 parameters."""

    img_channels: int = Field(default=3, ge=1)

    @property
    def untold(self) -> dict[str, Any]:
        """What an official file of it does not tell."""
        keys = ("patch_nums", "quant_resi", "using_znorm", "beta")
        return {key: getattr(self, key) for key in keys}


def norm_groups(channels: int) -> int:
    """Groups of GroupNorm: 32 as published, one per channel in nets narrower than that."""
    return min(32, channels)


class VarArchitecture(_Frozen):
    """VAR transformer, all but what data and tokenizer decide."""

    depth: int = Field(ge=1)
    embed_dim: int | None = Field(default=None, ge=1)  # None: 64 * depth
    num_heads: int | None = Field(default=None, ge=1)  # None: depth
    mlp_ratio: float = Field(default=4.0, gt=0.0)
    drop_path_rate: float = Field(default=0.0, ge=0.0, lt=1.0)  # of the last block; linear from 0
    norm_eps: float = Field(default=1e-6, gt=0.0)
    attn_l2_norm: bool = True
    shared_aln: bool = False

    @model_validator(mode="after")
    def _heads_divide_width(self) -> VarArchitecture:
        if self.width % self.heads:
            raise ValueError(f"embed_dim {self.width} is not a multiple of num_heads {self.heads}")
        check_size(self.depth, int((4 + 2 * self.mlp_ratio) * self.depth * self.width**2))
        return self

    @property
    def width(self) -> int:
        return 64 * self.depth if self.embed_dim is None else self.embed_dim

    @property
    def heads(self) -> int:
        return self.depth if self.num_heads is None else self.num_heads


class VarConfig(VarArchitecture):
    """VAR transformer; patch_nums, vocab_size and z_channels must match its tokenizer."""

    num_classes: int = Field(default=1000, ge=1)
    patch_nums: PatchNums = PATCH_NUMS_256
    vocab_size: int = Field(default=4096, ge=1)
    z_channels: int = Field(default=32, ge=1)
    dial: bool = False
    """Whether it takes a number beside the label."""

    _patch_nums = field_validator("patch_nums")(_checked_patch_nums)

    @property
    def length(self) -> int:
        """L: tokens of one image over all scales."""
        return sum(p * p for p in self.patch_nums)

    @property
    def untold(self) -> dict[str, Any]:
        """What an official file of it does not tell."""
        heads = {} if self.attn_l2_norm else {"num_heads": self.heads}
        return {"norm_eps": self.norm_eps, **heads}

    @property
    def first_length(self) -> int:
        """Tokens of the first scale, predicted from the class alone."""
        return self.patch_nums[0] ** 2


# Drop path 0.1 * depth / 24: VAR models/__init__.py and train settings (README).
VAR_PRESETS: dict[str, VarConfig] = {
    "var-d16": VarConfig(depth=16, drop_path_rate=0.1 * 16 / 24),  # 310,283,520 parameters
    "var-d20": VarConfig(depth=20, drop_path_rate=0.1 * 20 / 24),  # 600,917,136
    "var-d24": VarConfig(depth=24, drop_path_rate=0.1),  # 1,033,399,360
    "var-d30": VarConfig(depth=30, drop_path_rate=0.1 * 30 / 24),  # 2,010,020,356
    "var-d36": VarConfig(  # 512 pixels; 2,353,893,904
        depth=36, drop_path_rate=0.1 * 36 / 24, shared_aln=True, patch_nums=PATCH_NUMS_512
    ),
}


def var_preset(name: str) -> VarConfig:
    """Published configuration called `name`; UserError lists the names if there is none."""
    if name not in VAR_PRESETS:
        raise UserError(f"VAR preset '{name}' is unknown: expected one of {', '.join(VAR_PRESETS)}")
    return VAR_PRESETS[name]


class VarBase(Section):
    """Training of the next-scale transformer by maximum likelihood."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    label_dropout: Probability


class TokenizerTraining(Section):
    """Training of the multi-scale VQ-VAE by reconstruction and commitment."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive


class Tokenizer(Section):
    """Images to tokens and back, for autoregressive families."""

    network: VqvaeArchitecture
    training: Annotated[Annotated[TokenizerTraining, Tag(TRAINED)] | FromOthers, ORIGIN]


class VarSampler(Section):
    """Next-scale sampling; 0 switches a filter off."""

    top_k: Annotated[int, Field(ge=0)]
    top_p: Annotated[float, Field(ge=0, le=1)]


class VarModel(Section):
    """Autoregressive family: VQ-VAE tokens, next-scale transformer, exact likelihood."""

    family: Literal["var"]
    label: Label
    resolution: Side | None = None
    transform: Transform | None = None
    """Of the images that the model learns from, if not ``data.transform``."""
    tokenizer: Tokenizer
    network: VarArchitecture
    base: Annotated[Annotated[VarBase, Tag(TRAINED)] | FromOthers, ORIGIN]
    sampler: VarSampler
    guidance: Scales
    precision: Precision = "float32"
    decoding: Decoding | None = None
    """float32 if absent."""

    guided_by: ClassVar[frozenset[str]] = frozenset({"null"})
    has_dial: ClassVar[bool] = True
    """Whether a network can be given a dial, as ``Family.has_dial``."""
    released_null_label: ClassVar[bool] = True
    """Whether released weights know the null label. Every VAR was trained with it."""
    implementation: ClassVar[None] = None
    """Its code is in this package."""

    @property
    def guide(self) -> None:
        """No network of its own guides it."""

    @property
    def noise(self) -> None:
        """Its likelihood has no noise levels."""

    def architecture(self) -> dict[str, Any]:
        """Section ``network`` of a specification."""
        return {
            "family": self.family,
            **plain(self.network),
            "tokenizer": plain(self.tokenizer.network),
        }

    def guide_architecture(self) -> dict[str, Any]:
        """UserError: see ``guide``."""
        raise UserError(f"models: {self.label} has no guide")

    @property
    def coder(self) -> TokenizerTraining | Released:
        """How its tokenizer is trained or taken over."""
        return self.tokenizer.training

    @property
    def has_coder(self) -> bool:
        """Whether images become something else before the network sees them: tokens."""
        return True

    def coder_spec(self) -> dict[str, Any]:
        """What its tokenizer's job needs to know."""
        return {"tokenizer": plain(self.tokenizer)}

    @property
    def releases(self) -> dict[str, Released]:
        """The published files it is made of, by role."""
        return released_parts(base=self.base, tokenizer=self.coder)

    def nfe_of(self, guided: bool, interval: tuple[float, float] | None = None) -> int:
        """Network evaluations per image (NFE): one per scale; guidance doubles them."""
        return len(self.tokenizer.network.patch_nums) * (2 if guided else 1)
