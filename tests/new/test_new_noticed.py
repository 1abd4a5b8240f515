"""`mclr new` tells what the pictures show, and writes the background into the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from mclr.new.machine import Machine
from mclr.new.sizes import GRIDS, sizes_for
from mclr.new.summary import as_json, as_text
from mclr.new.survey import Survey, survey
from mclr.new.write import Case, Choice, render


def photos(folder: Path) -> Path:
    """Two classes of grey pictures of 12 bits in 16, and three odd files."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            values = draw.integers(4096, size=(9, 9), dtype=np.uint16)
            Image.fromarray(values).save(folder / name / f"{i}.png")
    grey = draw.integers(256, size=(9, 9, 2), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "cat" / "clear.png")
    Image.new("L", (9, 9), 7).save(folder / "dog" / "empty.png")
    pages = [Image.fromarray(grey[..., 0]), Image.fromarray(grey[..., 1])]
    pages[0].save(folder / "dog" / "pages.tif", save_all=True, append_images=pages[1:])
    (folder / "dog" / "deep.pgm").write_bytes(b"P5 9 9 65535\n" + bytes(range(162)))
    return folder


def test_what_pictures_show_is_told(tmp_path: Path) -> None:
    found = survey(str(photos(tmp_path / "photos")))
    assert found.is_grey and set(found.modes) == {"grey", "grey with alpha"}
    text = as_text(found)
    for line in (
        "  transparent        1 images, such as cat/clear.png, are transparent in places",
        "  dark 16 bits       24 images, such as cat/0.png, of 25 with 16 bits have no value above",
        "  first of several   1 images, such as dog/pages.tif, are the first of several",
        "  of one colour      1 images, such as dog/empty.png, have one colour throughout",
    ):
        assert line in text
    assert as_json(found)["noticed"]["constant"] == {"images": 1, "example": "dog/empty.png"}


def test_the_file_names_the_background() -> None:
    machine = Machine(2, "", 16e9, 16e9)
    for noticed in ({}, {"transparent": {"images": 3, "example": "a.png"}}):
        found = Survey(
            "photos", "folder", {"a": 200, "b": 200}, {}, [], {}, 0, (8, 8, 8), 8, {"RGB": 400},
            noticed,
        )  # fmt: skip
        case = Case("mine", "config/mine.yaml", found, machine, 8.0)
        text = render(case, Choice(sizes_for(8)[0], GRIDS[0], 25_600))
        data = yaml.safe_load(text)["data"]
        assert data.get("background") == ("white" if noticed else None)
        assert ("3 images are transparent" in text) == bool(noticed)
