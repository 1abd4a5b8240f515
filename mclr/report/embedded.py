"""Images of the results, read; inside a page as WebP: a chart takes less than half of its PNG."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from mclr.errors import UserError


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


def file_uri(path: Path, remedy: str) -> str:
    """An image file as a data URI, its pixels unchanged.

    Raises:
        UserError: there is no such file; ``remedy`` says what makes it.
    """
    if not path.is_file():
        raise UserError(f"{path}: figure is missing; {remedy}")
    return image_uri(read_image(path))
