"""What a page holds of other files: images as WebP, and text compressed, all in base 64."""

from __future__ import annotations

import base64
import gzip
import io
from pathlib import Path

from PIL import Image

from mclr.errors import UserError

COLOURS = 256  # of a drawing: shades at the rims of lines are brought to the nearest


def packed(text: str) -> str:
    """Text compressed with gzip, in base 64; the same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def read_image(path: Path) -> Image.Image:
    """An image of the results; a damaged file is a UserError that names it."""
    try:
        with Image.open(path) as stored:
            return stored.copy()
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{path}: not a readable image ({error}); delete it and run `snakemake` again, or "
            f"`dvc checkout --force {path}` if it is published"
        ) from None


def image_uri(image: Image.Image, lossless: bool = True, quality: int = 80) -> str:
    """An image as a data URI.

    ``quality`` (0 to 100) is that of the pixels, or, without loss, how hard a small file is sought.
    """
    stream = io.BytesIO()
    image.save(stream, "WEBP", lossless=lossless, quality=quality)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def file_uri(path: Path, remedy: str, few_colours: bool = False) -> str:
    """An image file as a data URI; with ``few_colours``, of ``COLOURS`` at most.

    Raises:
        UserError: there is no such file; ``remedy`` says what makes it.
    """
    if not path.is_file():
        raise UserError(f"{path}: figure is missing; {remedy}")
    image = read_image(path)
    return image_uri(_of_few_colours(image.convert("RGB")) if few_colours else image)


def _of_few_colours(drawing: Image.Image) -> Image.Image:
    if drawing.getcolors(COLOURS) is not None:
        return drawing
    return drawing.quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB")
