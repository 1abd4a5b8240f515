"""Networks and schedulers in the configuration, with the names and defaults of diffusers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mclr.settings.section import Count, Positive, Section, whole

KL = "kl"
"""What a specification calls an ``AutoencoderKL`` of a folder."""

FLOW = "flow_prediction"
SCALED_STD, PIXEL_STD = 1.0, 0.5
"""Deviation of what the network sees: a folder's scaling factor makes latents of deviation 1."""

Dropout = Annotated[float, Field(ge=0, lt=1)]
Layers = Annotated[int, Field(ge=1, le=1 << 10)]
Width = Annotated[int, Field(ge=1, le=1 << 16)]


class DitArchitecture(Section):
    """diffusers' ``DiTTransformer2DModel``, all but what the data decide.

    Source: Peebles & Xie (arXiv 2212.09748); the defaults are DiT-XL/2. The null label is the last
    of its ``num_embeds_ada_norm + 1`` embeddings. learned_variance: it also predicts a variance,
    in as many channels again, which likelihoods and samplers leave alone.
    """

    part: ClassVar[str] = "transformer"
    """Its sub-folder of a model's folder."""
    kind: Literal["dit"]
    num_layers: Layers = 28
    num_attention_heads: Layers = 16
    attention_head_dim: Width = 72
    patch_size: Layers = 2
    dropout: Dropout = 0.0
    attention_bias: bool = True
    activation_fn: Literal["gelu", "gelu-approximate", "geglu", "geglu-approximate"] = (
        "gelu-approximate"
    )
    upcast_attention: bool = False
    norm_elementwise_affine: bool = False
    norm_eps: Positive = 1e-5
    learned_variance: bool = False


class UnetArchitecture(Section):
    """diffusers' ``UNet2DModel`` with class embeddings, all but what the data decide.

    null_label: whether it has one embedding more than there are classes, for the null label.
    """

    part: ClassVar[str] = "unet"
    kind: Literal["unet"]
    block_out_channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)] = (
        224,
        448,
        672,
        896,
    )
    down_block_types: tuple[
        Literal["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"], ...
    ] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    up_block_types: tuple[Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"], ...] = (
        *("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    layers_per_block: Layers = 2
    mid_block_scale_factor: Positive = 1.0
    center_input_sample: bool = False
    time_embedding_type: Literal["positional"] = "positional"
    time_embedding_dim: Width | None = None
    freq_shift: Annotated[int, Field(ge=0)] = 0
    flip_sin_to_cos: bool = True
    downsample_padding: Annotated[int, Field(ge=0)] = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: Dropout = 0.0
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    attention_head_dim: Count | None = 8
    norm_num_groups: Count = 32
    attn_norm_num_groups: Count | None = None
    norm_eps: Positive = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    learned_variance: bool = False
    null_label: bool = True

    @model_validator(mode="after")
    def _levels(self) -> UnetArchitecture:
        levels = {len(self.block_out_channels), len(self.down_block_types)}
        if len(levels | {len(self.up_block_types)}) > 1:
            raise ValueError(
                "block_out_channels, down_block_types and up_block_types: expected as many of each"
            )
        return self


Architecture = Annotated[DitArchitecture | UnetArchitecture, Field(discriminator="kind")]

Value = bool | int | float | str | list[float] | None


class Scheduler(Section):
    """A scheduler of diffusers that evaluates the network once a step, with its own settings."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Value, AfterValidator(whole)]] = Field(init=False)

    name: Literal[
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "UniPCMultistepScheduler",
        "FlowMatchEulerDiscreteScheduler",
    ]
    num_train_timesteps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    prediction_type: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] | None = None

    @property
    def prediction(self) -> str:
        """What the network predicts, by diffusers' name."""
        return FLOW if self.is_flow else self.prediction_type or "epsilon"

    @property
    def is_flow(self) -> bool:
        """Whether noise is mixed in as flow matching does, and not as DDPM."""
        return self.name.startswith("FlowMatch") or self.prediction_type == FLOW

    @property
    def settings(self) -> dict[str, Any]:
        """All but its name, for diffusers."""
        content = {"num_train_timesteps": self.num_train_timesteps} | (self.model_extra or {})
        told = self.prediction_type if not self.name.startswith("FlowMatch") else None
        return content | ({"prediction_type": told} if told else {})

    @model_validator(mode="after")
    def _possible(self) -> Scheduler:
        more = self.model_extra or {}
        by_flow = bool(more.get("use_flow_sigmas"))
        if not self.name.startswith("FlowMatch") and by_flow != (self.prediction_type == FLOW):
            raise ValueError("use_flow_sigmas and prediction_type flow_prediction go together")
        if self.name.startswith("FlowMatch") and self.prediction_type not in (None, FLOW):
            raise ValueError(f"prediction_type: {self.name} has none; remove it")
        if more.get("use_dynamic_shifting") or more.get("timestep_type") == "continuous":
            raise ValueError("use_dynamic_shifting and continuous times are not supported")
        return self
