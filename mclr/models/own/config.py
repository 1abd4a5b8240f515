"""A family of one's own in the configuration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mclr.config.base import Count, NonNegative, Positive, Probability, Scales, Section, Seed, plain
from mclr.config.released import Released, released_parts
from mclr.errors import UserError
from mclr.files import sha256
from mclr.models.implementation import source_of


class OwnBase(Section):
    """Training of a base model of one's own family: Adam, warm-up, linear decay."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: NonNegative = 0.0
    label_dropout: Probability = 0.1


class OwnModel(Section):
    """A family of one's own: a class derived from ``mclr.models.own.OwnFamily``."""

    family: Literal["own"]
    label: str
    resolution: Count | None = None
    implementation: Annotated[str, Field(pattern=r"^.+\.py:\w+$")]
    """``path/to/file.py:Class``."""
    options: dict[str, bool | int | float | str] = Field(default={})
    nfe: Count
    """Network evaluations per image; guidance doubles them."""
    base: OwnBase
    guidance: Scales
    precision: Literal["float32"] = "float32"

    guided_by: ClassVar[frozenset[str]] = frozenset({"null", "network", "interval"})
    """What its class may be able to do; which of these it can, the class says when a job starts."""

    @property
    def guide(self) -> None:
        """No network of its own guides it."""

    @property
    def noise(self) -> None:
        """Noise levels are an affair of its class."""

    @property
    def sampler(self) -> None:
        """So is its sampler."""

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
