"""What is measured of a tier: sampled points, studies, separation, and the nets of the report."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mclr.settings.features import LabelScheme, Protocol
from mclr.settings.section import Count, Distinct, Name, NonNegative, Positive, Scales, Section


class Evaluation(Section):
    """How every point is sampled and measured: these values enter the protocol id."""

    n_samples: Annotated[int, Field(ge=2)]
    batch: Count
    shards: Annotated[int, Field(ge=1, le=1000)]
    labels: LabelScheme
    neighbourhood: Count
    isc_features: Name
    isc_splits: Count
    grid_rows: Annotated[int, Field(ge=1, le=1000)]
    grid_classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Classes of the image grids; all if absent."""

    def shown(self, classes: int) -> list[int]:
        """The labels of the columns of an image grid of a data set with so many classes."""
        return list(range(classes)) if self.grid_classes is None else self.grid_classes

    @property
    def protocol(self) -> Protocol:
        """The part that numbers must have in common to be compared."""
        return Protocol.model_validate(self.model_dump(include=set(Protocol.model_fields)))

    @model_validator(mode="after")
    def _consistent(self) -> Evaluation:
        batches = -(-self.n_samples // self.batch)
        if self.shards > batches:
            raise ValueError(f"shards {self.shards}: at most the {batches} batches of n_samples")
        if self.isc_splits > self.n_samples:
            raise ValueError(f"isc_splits {self.isc_splits}: at most the n_samples images")
        if self.neighbourhood >= self.n_samples:
            raise ValueError(f"neighbourhood {self.neighbourhood}: fewer than the n_samples images")
        return self


class Interval(Section):
    """CFG at noise levels within [low, high] alone (Kynkäänniemi et al., arXiv 2404.07724)."""

    guidance: Scales
    low: NonNegative
    high: Positive


class Study(Section):
    """Other ways to sample an experiment's best checkpoint, without training.

    guidance: CFG scales. dial: weights base + t (fine-tuned − base), for each t.
    autoguidance: scales of guidance by the base model (arXiv 2406.02507). interval: CFG within
    noise levels.
    """

    guidance: Scales = Field(default=[])
    dial: Distinct = Field(default=[])
    autoguidance: Scales = Field(default=[])
    interval: Interval | None = None


class Separation(Section):
    """How far the base model tells the classes of real and generated images apart.

    ``n_images`` of each kind, each under its own class and ``others`` more, with ``draws`` shared
    draws of the noise.
    """

    n_images: Count
    draws: Count
    others: Count


class Report(Section):
    """Which feature net fills the FD, precision and recall columns of Table 1.

    Two names with a plus between them, as in the paper: FD of the first, the rest of the second.
    """

    features: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(\+[a-z][a-z0-9-]*)?$")]

    @property
    def nets(self) -> tuple[str, str]:
        """The feature net of FD, and that of precision, recall and accuracy."""
        return fd_and_rest(self.features)


def fd_and_rest(features: str) -> tuple[str, str]:
    """The two feature nets of "fd+rest"; the same one twice of a single name."""
    first, _, second = features.partition("+")
    return first, second or first
