"""Image folders and archives of every kind, generated."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mclr.data.transforms import Pixels
from mclr.settings.data import OwnImages


def noise(rows: int, columns: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(256, size=(rows, columns, 3), dtype=np.uint8)


def file_of(image: Image.Image | Pixels, kind: str = "PNG", **how: Any) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    given = image if isinstance(image, Image.Image) else Image.fromarray(image)
    given.save(stream, kind, **how)
    return stream.getvalue()


def pictures(classes: int = 3, each: int = 6) -> dict[str, bytes]:
    """Files of a small data set by name, of all sizes: ``c0/0.png`` …"""
    return {
        f"c{c}/{i}.png": file_of(noise(9 + i % 6, 12 - i % 6 + c, 100 * c + i))
        for c in range(classes)
        for i in range(each)
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_tar_of_tars(path: Path, files: dict[str, bytes]) -> Path:
    """As ILSVRC2012_img_train.tar: a tar for each class."""
    inner: dict[str, bytes] = {}
    for name in sorted({name.split("/")[0] for name in files}):
        own = {n.split("/", 1)[1]: c for n, c in files.items() if n.startswith(f"{name}/")}
        inner[f"{name}.tar"] = write_tar(path.with_name("inner.tar"), own).read_bytes()
    return write_tar(path, inner)


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_edm2_zip(path: Path, files: dict[str, bytes]) -> Path:
    """As EDM2's dataset_tool: numbered images of all classes mixed, labels in dataset.json."""
    shuffled = sorted(files, key=lambda name: name[::-1])
    names = {name: f"{i // 10:05d}/img{i:08d}.png" for i, name in enumerate(shuffled)}
    labels = [[names[name], int(name[1 : name.index("/")])] for name in shuffled]
    content = {names[name]: files[name] for name in shuffled}
    return write_zip(path, content | {"dataset.json": json.dumps({"labels": labels}).encode()})


def settings(path: Path | str, **changes: Any) -> OwnImages:
    """Section ``data`` of a tier over these images."""
    given = {"source": "images", "path": str(path), "resolution": 8, "n_reference": 6}
    return OwnImages.model_validate(given | changes)
