"""Which images, and which of them are the reference."""

from __future__ import annotations

import operator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mclr.settings.base import Count, Section

Transform = Literal["center-crop-dhariwal", "center-crop", "scale", "var"]
"""How a photograph becomes a square (``mclr.data.transforms``)."""


COUNTS = {"digits": (1_797, 0), "fashion-mnist": (70_000, 10_000)}
"""Images of each source: all of them, and those of its own test split."""


class Data(Section):
    """Which images, and which of them are held out as the reference of every metric.

    Without ``n_reference`` the reference is the test split that the source itself has.
    """

    source: Literal["digits", "fashion-mnist"]
    n_reference: Count | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _reference(self) -> Data:
        if self.n_reference is None and self.source == "digits":
            raise ValueError("n_reference: required key is missing, digits has no test split")
        return self

    @property
    def n_train(self) -> int:
        """How many images there are to train on."""
        count, test = COUNTS[self.source]
        return count - (self.n_reference or test)


class OwnImages(Section):
    """Images that the user has: a folder with one sub-folder per class, or an archive of one.

    They stay where they are; what is prepared is an index of them (``mclr.data.images``).
    """

    source: Literal["images"]
    path: Annotated[str, Field(min_length=1)]
    """Folder, .tar or .zip; $VARIABLES are of the environment of whoever reads the images."""
    classes: Count | None = None
    """How many there must be; None = as many as are found."""
    count: Count | None = Field(default=None, exclude_if=operator.not_)
    """How many images there are, without those that are no images; runs in ``epochs`` ask."""
    channels: Literal[1, 3] = 3
    resolution: Count
    transform: Transform = "center-crop-dhariwal"
    exif: Literal["ignore", "apply"] = "ignore"
    """Whether a camera's note of its orientation turns an image; EDM2's tools ignore it."""
    n_reference: Count | None = None
    """None = all training images, which only ``reference: train`` allows."""
    reference: Literal["held-out", "train"] = "held-out"
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    on_bad_image: Literal["error", "skip"] = "error"

    @model_validator(mode="after")
    def _reference(self) -> OwnImages:
        if self.n_reference is None and self.reference == "held-out":
            raise ValueError(
                "n_reference: required key is missing; say how many images are held out, "
                "or write `reference: train`"
            )
        return self

    @property
    def n_train(self) -> int | None:
        """How many images there are to train on, where ``count`` says how many there are."""
        held_out = self.n_reference if self.reference == "held-out" else 0
        return None if self.count is None else self.count - (held_out or 0)
