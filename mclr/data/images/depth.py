"""Images of 16 bits a value to 8 bits, and what their files say of the range of their values.

Of 16-bit colour PIL itself keeps the high byte, so of grey it is kept here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffTags import TAGS_V2

from mclr.errors import UserError

FULL = 16
LOW = 2**14
"""Images with no value from here on (a quarter of the range) perhaps have fewer bits than 16."""
TAGS = {info.name: number for number, info in TAGS_V2.items()}
BITS, PHOTOMETRIC = TAGS["BitsPerSample"], TAGS["PhotometricInterpretation"]
LEVELS = {"L;2": 85, "L;4": 17}
"""Steps between the values of grey PNGs with few bits, by PIL's names of them."""


class Depth(NamedTuple):
    """How the values of a file are stored; known before they are read.

    is_told: whether the file says which range they have; 16-bit files often hold 12 bits.
    is_negative: whether 0 is white.
    """

    bits: int = 8
    is_grey: bool = False
    is_told: bool = True
    is_negative: bool = False


def depth_of(image: Image.Image) -> Depth:
    """Of an opened image whose pixels are not loaded."""
    tiles: Any = getattr(image, "tile", None) or [(None, None, 0, "")]
    given = tiles[0][3]
    raw, *more = given if isinstance(given, tuple) else (given,)
    if image.mode == "L" and raw in LEVELS and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= LEVELS[raw]  # PIL scales the pixels alone
    if image.format == "PPM" and image.mode in ("I", "RGB"):
        # PIL spreads all values up to the highest that the file names over the full range.
        is_full = raw == "I;16B" or 2**FULL - 1 in more
        return (
            Depth(FULL, image.mode == "I", not is_full) if is_full or image.mode == "I" else Depth()
        )
    if image.mode.startswith("I;16"):
        tags: Any = getattr(image, "tag_v2", {})
        bits = min(tags.get(BITS, (FULL,))[0], FULL)
        is_told = bits < FULL or image.format == "JPEG2000"
        return Depth(bits, True, is_told, tags.get(PHOTOMETRIC) == 0)
    return Depth(FULL, is_told=False) if ";16" in str(raw) else Depth()


def to_8_bits(image: Image.Image, depth: Depth, bits: int | None) -> tuple[Image.Image, int | None]:
    """A loaded image in 8 bits; and its highest value, if nobody says which range it has.

    bits: that a value of 16-bit files has, as the user says.

    Raises:
        UserError: the image has more bits than that, or is one that cannot be rescaled; the
            message is the reason alone.
    """
    clear = image.info.get("transparency")
    if not depth.is_grey:
        if depth.bits == FULL and clear is not None:
            raise UserError("16-bit colour with one that is transparent; convert it to 8 bits")
        return image, None if depth.is_told else _highest_colour(image, bits)
    values: NDArray[Any] = np.asarray(image)
    highest = int(values.max())
    used = depth.bits if depth.is_told or bits is None else bits
    if highest >= 2**used:
        raise UserError(f"a value of {highest}, expected at most {2**used - 1} (bits: {used})")
    grey = (values >> (used - 8)).astype(np.uint8)
    if depth.is_negative:
        grey = 255 - grey
    small = Image.fromarray(grey)
    if isinstance(clear, int):
        small.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return small, None if depth.is_told or bits else highest


def _highest_colour(image: Image.Image, bits: int | None) -> int | None:
    """Of 16-bit colour, of which PIL has kept the high byte: the highest value there may be."""
    if bits == FULL:
        return None
    if bits is not None:
        raise UserError(
            f"16-bit colour, of which 8 bits are read, so that {bits} bits cannot be rescaled; "
            "convert it to 8 bits"
        )
    bands = (image.getchannel(band) for band in image.getbands() if band != "A")
    return 256 * max(int(np.asarray(band).max()) for band in bands) + 255
