"""Photographs of any size to the squares the published models were trained on.

Images are uint8 (H, W, 3), in and out. All resizing is PIL's, on 8-bit values, so a data set
prepared here has the pixels of one prepared with the official tools. Sources: EDM2's dataset_tool
(center-crop-dhariwal is that of Dhariwal & Nichol, ADM) and VAR's data pipeline.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from mclr.errors import UserError

Pixels = NDArray[np.uint8]

VAR_MARGIN = 1.125  # VAR's mid_reso: short side before the crop / side after it


def transform_image(name: str, image: Pixels, width: int, height: int) -> Pixels:
    """Image (H, W, 3) to (height, width, 3) by the transform ``name``, one of ``TRANSFORMS``.

    "center-crop-wide" pads its result to (width, width, 3) with black. Raises UserError for an
    unknown name, an image that is not RGB or empty, an impossible size, or too small an image.
    """
    if name not in TRANSFORMS:
        raise UserError(f"transform {name!r} is unknown; choose from {', '.join(TRANSFORMS)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(
            f"{name}: image of type {image.dtype} and shape {image.shape}; expected uint8 "
            "(H, W, 3), RGB and not empty. Convert it with PIL's convert('RGB')"
        )
    if min(width, height) < 1 or (name in SQUARE and width != height):
        kind = "equal positive" if name in SQUARE else "positive"
        raise UserError(f"{name}: size {width}×{height}; expected {kind} width and height")
    return TRANSFORMS[name](image, width, height)


def scale(image: Pixels, width: int, height: int) -> Pixels:
    """Stretch or shrink each side to its size, whatever the aspect ratio (Lanczos)."""
    return _resize(image, width, height, Resampling.LANCZOS)


def center_crop(image: Pixels, width: int, height: int) -> Pixels:
    """The largest centred square, resized (Lanczos)."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    square = image[top : (rows + side) // 2, left : (columns + side) // 2]
    return _resize(square, width, height, Resampling.LANCZOS)


def center_crop_wide(image: Pixels, width: int, height: int) -> Pixels:
    """Rows of the middle, resized (Lanczos), on a black square of side ``width``."""
    rows, columns = image.shape[:2]
    kept = round(width * rows / columns)
    if columns < width or kept < height:
        raise UserError(
            f"center-crop-wide: image of {columns}×{rows} pixels is too small or too flat for "
            f"{width}×{height}; leave it out"
        )
    middle = image[(rows - kept) // 2 : (rows + kept) // 2]
    canvas = np.zeros((width, width, 3), dtype=np.uint8)
    top = (width - height) // 2
    canvas[top : (width + height) // 2] = _resize(middle, width, height, Resampling.LANCZOS)
    return canvas


def center_crop_dhariwal(image: Pixels, width: int, height: int) -> Pixels:
    """Short side to ``width``: halved while twice too large (box), then bicubic; centred crop."""
    rows, columns = image.shape[:2]
    while min(rows, columns) >= 2 * width:
        rows, columns = rows // 2, columns // 2
        image = _resize(image, columns, rows, Resampling.BOX)
    factor = width / min(rows, columns)
    rows, columns = round(rows * factor), round(columns * factor)
    image = _resize(image, columns, rows, Resampling.BICUBIC)
    top, left = (rows - height) // 2, (columns - width) // 2
    return image[top : top + height, left : left + width]


def var_crop(image: Pixels, width: int, height: int) -> Pixels:
    """Short side to 1.125 × ``width`` (Lanczos), then the centre, as VAR validates."""
    rows, columns = image.shape[:2]
    short = round(VAR_MARGIN * width)
    long = int(short * max(rows, columns) / min(rows, columns))
    rows, columns = (short, long) if rows <= columns else (long, short)
    image = _resize(image, columns, rows, Resampling.LANCZOS)
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    return image[top : top + height, left : left + width]


def _resize(image: Pixels, width: int, height: int, filter_: Resampling) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((width, height), filter_))


TRANSFORMS: dict[str, Callable[[Pixels, int, int], Pixels]] = {
    "center-crop-dhariwal": center_crop_dhariwal,
    "center-crop": center_crop,
    "center-crop-wide": center_crop_wide,
    "scale": scale,
    "var": var_crop,
}
SQUARE = ("center-crop-dhariwal", "var")
