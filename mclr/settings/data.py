"""Which images, and which of them are the reference."""

from __future__ import annotations

import operator
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mclr.settings.section import Count, Section, Side

Transform = Literal["center-crop-dhariwal", "center-crop", "scale", "var"]
"""How a photograph becomes a square (``mclr.data.transforms``)."""
WHITE = "#ffffff"


def _colour(value: Any) -> str:
    """A colour's name, or #rrggbb, as #rrggbb; ValueError if it is neither."""
    from PIL import ImageColor  # many jobs do without

    text = str(value).lower()
    if text in ImageColor.colormap or re.fullmatch("#[0-9a-f]{6}", text):
        red, green, blue, *_ = ImageColor.getrgb(text)
        return f"#{red:02x}{green:02x}{blue:02x}"
    raise ValueError(
        f"{value!r} is no colour; expected a name, such as white, or '#rrggbb' with its quotes "
        "(without them # begins a comment)"
    )


Colour = Annotated[str, BeforeValidator(_colour)]


COUNTS = {"digits": (1_797, 0), "fashion-mnist": (70_000, 10_000)}
"""Images of each source: all of them, and those of its own test split."""


class Data(Section):
    """Which images, and which of them are held out as the reference of every metric.

    Without ``n_reference`` the reference is the test split that the source itself has.
    """

    source: Literal["digits", "fashion-mnist"]
    n_reference: Count | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def classes(self) -> int:
        """How many there are."""
        return 10

    @model_validator(mode="after")
    def _reference(self) -> Data:
        if self.n_reference is None and self.source == "digits":
            raise ValueError("n_reference: required key is missing, digits has no test split")
        count = COUNTS[self.source][0]
        if self.n_reference is not None and self.n_reference > count - self.classes:
            raise ValueError(
                f"n_reference: {self.n_reference:,} of {count:,} images leave a split with fewer "
                f"images than its {self.classes} classes"
            )
        return self

    @property
    def n_train(self) -> int:
        """How many images there are to train on."""
        count, test = COUNTS[self.source]
        return count - (self.n_reference or test)


DECODING = ("background", "bits")
"""Keys of ``OwnImages`` that decide pixels of some kinds of images alone."""


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
    resolution: Side
    transform: Transform = "center-crop-dhariwal"
    exif: Literal["ignore", "apply"] = "ignore"
    """Whether a camera's note of its orientation turns an image; EDM2's tools ignore it."""
    background: Colour = Field(default=WHITE, exclude_if=lambda colour: colour == WHITE)
    """What shows where an image is transparent."""
    bits: Annotated[int, Field(ge=8, le=16)] | None = Field(default=None, exclude_if=operator.not_)
    """That a value has in 16-bit files (often 12); None = all 16, and a warning if they seem fewer.
    """
    flip: bool = Field(default=False, exclude_if=operator.not_)
    """Whether the mirror image of each training image is a training image, too, as ``xflip`` of
    EDM's data sets has it. The reference has none."""
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
        if self.count is None:
            return None
        held_out = self.n_reference if self.reference == "held-out" else 0
        return (self.count - (held_out or 0)) * (2 if self.flip else 1)
