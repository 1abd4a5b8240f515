"""A picture of many images in rows and columns, each labelled; pixels stay what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mclr.checkpoints.vocabulary import one_line
from mclr.extras import require

CELL = 64
"""Images are enlarged by a whole factor to at least this side."""
GAP = 4
FONT = 14
NAME = 32
"""Characters of a label; the rest is cut off."""


def labelled_grid(
    images: Sequence[Image.Image], rows: Sequence[str], columns: Sequence[str], corner: str
) -> Image.Image:
    """Images in the order of reading, a label before each row and above each column.

    images: len(rows) · len(columns) of one size. corner: says what the columns' labels are.
    """
    width, height = images[0].size
    factor = max(1, -(-CELL // max(width, height)))
    width, height = width * factor, height * factor
    font = _font()
    names = [_short(name) for name in rows]
    left = 2 * GAP + max(int(font.getlength(text)) for text in [*names, corner])
    top = FONT + 3 * GAP
    size = (left + (width + GAP) * len(columns), top + (height + GAP) * len(rows))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP), corner, "gray", font)
    for j, label in enumerate(columns):
        x = left + j * (width + GAP) + width // 2
        draw.text((x, GAP), _short(label), "gray", font, anchor="ma")
    for i, name in enumerate(names):
        y = top + i * (height + GAP)
        draw.text((GAP, y + height // 2), name, "black", font, anchor="lm")
        for j in range(len(columns)):
            image = images[i * len(columns) + j].convert("RGB")
            large = image.resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(large, (left + j * (width + GAP), y))
    return canvas


def _short(text: str) -> str:
    """A label that can be drawn: one line of it, of signs that there are."""
    text = one_line(text)
    return text if len(text) <= NAME else text[: NAME - 1] + "…"


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the letters of most languages."""
    require("matplotlib")
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), FONT)
