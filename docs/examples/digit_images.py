"""Write some of scikit-learn's handwritten digits as PNG files, one sub-folder per class.

python docs/examples/digit_images.py pictures
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three")


def write(folder: Path) -> None:
    """Grey images of 8×8 pixels: ``zero/0.png``, ``one/1.png``, …"""
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if label < len(NAMES):
            place = folder / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(place / f"{i}.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
