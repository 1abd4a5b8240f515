"""Pack a folder of images, one sub-folder per class, and print its row of data/versions.csv.

python docs/examples/own_images.py pictures 32 data/mine.npz >> data/versions.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mclr.files import atomic, sha256


def pack(folder: Path, side: int, output: Path) -> str:
    """Images in RGB, cut to their central square and resized to ``side``; the row to add."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, path in enumerate(classes):
        for file in sorted(path.iterdir()):
            with Image.open(file) as image:
                square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BOX)
            images.append(np.asarray(square).transpose(2, 0, 1))
            labels.append(label)
    with atomic(output) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            images=np.stack(images),
            labels=np.array(labels, dtype=np.int64),
            class_names=np.array([path.name for path in classes]),
        )
    return f"mine,{folder.name},{output.name},,{sha256(output)},{output.stat().st_size},mine"


if __name__ == "__main__":
    folder, side, output = sys.argv[1:]
    print(pack(Path(folder), int(side), Path(output)))
