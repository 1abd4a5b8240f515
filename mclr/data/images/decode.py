"""An image file to the pixels a model sees.

Conversions are PIL's, as in the tools that ADM and EDM2 were prepared with: alpha is dropped,
palettes and CMYK become RGB, grey is repeated. Of 16-bit grey the high byte is kept, as PIL does
with 16-bit RGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from mclr.data.transforms import transform_image
from mclr.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)
MIN_SIDE = 2
"""Pixels: an image with a side of one is a placeholder or a tracker, not a picture."""


@dataclass(frozen=True)
class Decoder:
    """How an image file becomes uint8 (channels, resolution, resolution).

    transform: a name of ``mclr.data.transforms``. exif: whether the orientation that a camera
    noted turns the image: ``apply`` or ``ignore``.
    """

    transform: str
    resolution: int
    channels: int
    exif: str = "ignore"

    def pixels(self, content: bytes) -> NDArray[np.uint8]:
        """Pixels (C, H, W) of a file's bytes; UserError with the reason if it is damaged."""
        image = self.open(content)[0].convert("RGB")
        if self.channels == 1:
            image = image.convert("L").convert("RGB")
        side = self.resolution
        square = transform_image(self.transform, np.asarray(image), side, side)
        return np.ascontiguousarray(square.transpose(2, 0, 1)[: self.channels])

    def open(self, content: bytes) -> tuple[Image.Image, bool]:
        """The whole image of a file's bytes, of 8 bits; and whether EXIF notes that it is turned.

        Raises:
            UserError: not a whole image, a side shorter than two pixels, or numbers that have no
                natural range; the message is the reason alone.
        """
        if not content:
            raise UserError("empty file")
        try:
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            image.load()
            turned = image.getexif().get(Base.Orientation, 1) != 1
            if turned and self.exif == "apply":
                image = ImageOps.exif_transpose(image)
        except UnidentifiedImageError:
            raise UserError("not an image of a known format") from None
        except Exception as error:  # a damaged file can raise anything
            raise UserError(" ".join(str(error).split()) or type(error).__name__) from None
        if min(image.size) < MIN_SIDE:
            raise UserError(f"{image.width}×{image.height} pixels")
        if image.mode in ("I", "F"):
            raise UserError(f"pixels of type {image.mode}, expected 8 or 16 bits")
        return (_high_byte(image) if image.mode.startswith("I;16") else image), turned


def _high_byte(image: Image.Image) -> Image.Image:
    values: NDArray[np.uint16] = np.asarray(image)
    return Image.fromarray((values >> 8).astype(np.uint8))
