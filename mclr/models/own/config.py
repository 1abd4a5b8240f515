"""A family of one's own in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
)

from mclr.errors import UserError
from mclr.files import sha256
from mclr.settings.implementation import source_of
from mclr.settings.origin import ORIGIN, TRAINED, FromOthers, Released, released_parts
from mclr.settings.section import (
    Count,
    Label,
    NonNegative,
    Positive,
    Precision,
    Probability,
    Scales,
    Section,
    Seed,
    Setting,
    Side,
    plain,
)


class OwnBase(Section):
    """Training of a base model of one's own family: Adam, warm-up, linear decay."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: NonNegative = 0.0
    label_dropout: Probability = 0.1


class OwnSampler(Section):
    """Numbers for ``generate``, by names of one's own: the class gives them a meaning."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]


class OwnModel(Section):
    """A family of one's own: a class derived from ``mclr.models.own.OwnFamily``."""

    family: Literal["own"]
    label: Label
    resolution: Side | None = None
    implementation: Annotated[str, Field(pattern=r"^.+\.py:\w+$")]
    """``path/to/file.py:Class``."""
    options: dict[str, Setting] = Field(default={})
    nfe: Count
    """Network evaluations per image; guidance doubles them."""
    base: Annotated[Annotated[OwnBase, Tag(TRAINED)] | FromOthers, ORIGIN]
    sampler: OwnSampler | None = None
    guidance: Scales
    precision: Precision = "float32"
    """One of those that its class has (``precisions``)."""

    @field_validator("base")
    @classmethod
    def _readable(cls, base: OwnBase | Released) -> OwnBase | Released:
        if isinstance(base, Released) and Path(base.released).suffix not in ("", ".safetensors"):
            raise ValueError(
                f"released: {base.released}: weights of a family of one's own are a .safetensors "
                "file with the names of its network's state; convert them"
            )
        return base

    @model_serializer(mode="wrap")
    def _as_before(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a sampler where there is none: so specifications were before it could be."""
        content: dict[str, Any] = plainly(self)
        if self.sampler is None:
            content.pop("sampler", None)
        return content

    guided_by: ClassVar[frozenset[str]] = frozenset({"null", "network", "interval"})
    """What its class may be able to do; which of these it can, the class says when a job starts."""
    has_dial: ClassVar[bool] = False
    released_null_label: ClassVar[bool] = True
    """Whether released weights know the null label: taken for granted, since nobody can see it."""

    @property
    def guide(self) -> None:
        """No network of its own guides it."""

    @property
    def noise(self) -> None:
        """Noise levels are an affair of its class."""

    @property
    def transform(self) -> None:
        """Its images are the data's."""

    @property
    def decoding(self) -> None:
        """It has no decoder of the pipeline's."""

    def architecture(self) -> dict[str, Any]:
        """Section ``network`` of a specification; UserError without the file of its class."""
        content = sha256(source_of(self.implementation))
        return plain(self, "family", "implementation", "options") | {"sha256": content}

    def guide_architecture(self) -> dict[str, Any]:
        """UserError: see ``guide``."""
        raise UserError(f"models: {self.label} has no guide")

    @property
    def coder(self) -> None:
        """It has no tokenizer of the pipeline's."""

    @property
    def has_coder(self) -> bool:
        """Whether the pipeline makes something else of the images; its class may (``encode``)."""
        return False

    def coder_spec(self) -> dict[str, Any]:
        """UserError: see ``coder``."""
        raise UserError(f"models: {self.label}: a family of one's own has no tokenizer to train")

    @property
    def releases(self) -> dict[str, Released]:
        """The published files it is made of, by role."""
        return released_parts(base=self.base)

    def nfe_of(self, guided: bool, interval: tuple[float, float] | None = None) -> int:
        """Network evaluations per image (NFE), as told; guidance doubles them."""
        return self.nfe * (2 if guided else 1)
