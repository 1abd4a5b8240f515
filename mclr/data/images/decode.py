"""An image file to the pixels a model sees.

Conversions are PIL's, as in the tools that ADM and EDM2 were prepared with: palettes and CMYK
become RGB, grey is repeated. What is transparent shows a background.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.Image import Transpose

from mclr.data.images.depth import Depth, depth_of, to_8_bits
from mclr.data.transforms import transform_image
from mclr.errors import UserError
from mclr.settings.data import WHITE

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)
MIN_SIDE = 2
"""Pixels: an image with a side of one is a placeholder or a tracker, not a picture."""
JPEG = b"\xff\xd8"
"""Its first bytes."""
BACK = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
"""What undoes the turn that each noted orientation asks for."""


class Seen(NamedTuple):
    """What is odd about an image: whether EXIF turns it, and what shows on closer look.

    is_transparent: in parts. highest: value of a 16-bit image, where no range is told; else None.
    is_first: of several frames or pages. is_constant: one colour throughout.
    """

    turned: bool = False
    is_transparent: bool = False
    highest: int | None = None
    is_first: bool = False
    is_constant: bool = False


@dataclass(frozen=True)
class Decoder:
    """How an image file becomes uint8 (channels, resolution, resolution).

    transform: a name of ``mclr.data.transforms``. exif: whether the orientation that a camera
    noted turns the image: ``apply`` or ``ignore``. background: colour under what is transparent.
    bits: that a value has in 16-bit files, if not all of them.
    """

    transform: str
    resolution: int
    channels: int
    exif: str = "ignore"
    background: str = WHITE
    bits: int | None = None

    def pixels(self, content: bytes) -> NDArray[np.uint8]:
        """Pixels (C, H, W) of a file's bytes; UserError with the reason if it is damaged."""
        image = self.open(content)[0].convert("RGB")
        if self.channels == 1:
            image = image.convert("L").convert("RGB")
        side = self.resolution
        square = transform_image(self.transform, np.asarray(image), side, side)
        return np.ascontiguousarray(square.transpose(2, 0, 1)[: self.channels])

    def look(self, content: bytes) -> Seen:
        """What is odd about the image of a file's bytes; raises as ``open`` does."""
        image, seen = self.open(content)
        is_constant = all(low == high for low, high in _extrema(image))
        return seen._replace(is_first=_is_first(content), is_constant=is_constant)

    def open(self, content: bytes) -> tuple[Image.Image, Seen]:
        """The whole image of a file's bytes, opaque and of 8 bits; and what opening it has shown.

        Raises:
            UserError: not a whole image, a side shorter than two pixels, or numbers that have no
                natural range; the message is the reason alone.
        """
        if not content:
            raise UserError("empty file")
        try:
            image, depth, orientation = self._read(content)
            if min(image.size) < MIN_SIDE:
                raise UserError(f"{image.width}×{image.height} pixels")
            if image.mode in ("I", "F") and not depth.is_grey:
                raise UserError(f"pixels of type {image.mode}, expected 8 or 16 bits")
            image, highest = to_8_bits(image, depth, self.bits)
            image, is_transparent = _opaque(image, self.background)
        except UnidentifiedImageError:
            raise UserError("not an image of a known format") from None
        except UserError:
            raise
        except Exception as error:  # a damaged file can raise anything
            raise UserError(" ".join(str(error).split()) or type(error).__name__) from None
        return image, Seen(orientation in BACK, is_transparent, highest)

    def _read(self, content: bytes) -> tuple[Image.Image, Depth, int]:
        """The image as its file has it, turned or not; its depth; the orientation that is noted."""
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        depth = depth_of(image)
        is_tiff = image.format == "TIFF"  # which PIL turns when it loads it, and forgets why
        orientation = image.getexif().get(Base.Orientation, 1) if is_tiff else 1
        image.load()
        if is_tiff:
            if self.exif == "ignore" and orientation in BACK:
                image = image.transpose(BACK[orientation])
            return image, depth, orientation
        orientation = image.getexif().get(Base.Orientation, 1)
        if self.exif == "apply":
            image = ImageOps.exif_transpose(image)
        return image, depth, orientation


def _opaque(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    """The image on a background, if it is transparent anywhere; and whether it is."""
    if not image.has_transparency_data:
        return image, False
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return layer.convert("RGB"), False
    ground = Image.new("RGBA", layer.size, background)
    return Image.alpha_composite(ground, layer).convert("RGB"), True


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    """Lowest and highest value of each band."""
    found: Any = (image.convert("RGB") if image.mode == "P" else image).getextrema()
    return [*found] if isinstance(found[0], tuple) else [found]


def _is_first(content: bytes) -> bool:
    """Whether a file has more frames or pages; further views in a JPEG are none."""
    if content.startswith(JPEG):
        return False
    with suppress(Exception):  # to look beyond the first may fail where that is whole
        return bool(getattr(Image.open(io.BytesIO(content), formats=FORMATS), "is_animated", False))
    return False
