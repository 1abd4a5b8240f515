"""Which images, and which of them are the reference."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mclr.settings.base import Count, Section, Side

Transform = Literal["center-crop-dhariwal", "center-crop", "scale", "var"]
"""How a photograph becomes a square (``mclr.data.transforms``)."""
WHITE = "#ffffff"


def _colour(value: Any) -> str:
    """A colour's name, or #rrggbb, as #rrggbb; ValueError if it is neither."""
    text = str(value).lower()
    if text in ImageColor.colormap or re.fullmatch("#[0-9a-f]{6}", text):
        red, green, blue, *_ = ImageColor.getrgb(text)
        return f"#{red:02x}{green:02x}{blue:02x}"
    raise ValueError(
        f"{value!r} is no colour; expected a name, such as white, or '#rrggbb' with its quotes "
        "(without them # begins a comment)"
    )


Colour = Annotated[str, BeforeValidator(_colour)]


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


DECODING = ("background", "bits")
"""Keys of ``OwnImages`` that decide pixels of some kinds of images alone."""
LATER = (*DECODING,)
"""Keys that are younger than specifications which are kept."""


class OwnImages(Section):
    """Images that the user has: a folder with one sub-folder per class, or an archive of one.

    They stay where they are; what is prepared is an index of them (``mclr.data.images``).
    """

    source: Literal["images"]
    path: Annotated[str, Field(min_length=1)]
    """Folder, .tar or .zip; $VARIABLES are of the environment of whoever reads the images."""
    classes: Count | None = None
    """How many there must be; None = as many as are found."""
    channels: Literal[1, 3] = 3
    resolution: Side
    transform: Transform = "center-crop-dhariwal"
    exif: Literal["ignore", "apply"] = "ignore"
    """Whether a camera's note of its orientation turns an image; EDM2's tools ignore it."""
    background: Colour = WHITE
    """What shows where an image is transparent."""
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    """That a value has in 16-bit files (often 12); None = all 16, and a warning if they seem fewer.
    """
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

    @model_serializer(mode="wrap")
    def _as_before(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that came later, where they say nothing: so specifications were before."""
        content: dict[str, Any] = plainly(self)
        fields = type(self).model_fields
        silent = {key for key in LATER if getattr(self, key) == fields[key].default}
        return {key: value for key, value in content.items() if key not in silent}
