"""`mclr new` looks at images: what it counts, what it finds odd, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from mclr.errors import UserError
from mclr.new.summary import as_json, as_text
from mclr.new.survey import Survey, survey


def picture(path: Path, mode: str = "RGB", width: int = 12, height: int = 9, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def classes(folder: Path, each: int, *names: str, mode: str = "RGB") -> None:
    for c, name in enumerate(names):
        for i in range(each):
            picture(folder / name / f"{i}.png", mode, seed=100 * c + i)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes with something of everything."""
    folder = tmp_path / "photos"
    classes(folder, 12, "cat", "dog")
    for i in range(20):
        picture(folder / "dog" / f"more-{i}.png", seed=1000 + i)
    picture(folder / "cat" / "grey.png", "L", 40, 30, seed=2)
    picture(folder / "cat" / "clear.png", "RGBA", 16, 16, seed=3)
    picture(folder / "cat" / "print.jpg", "CMYK", 16, 16, seed=4)
    picture(folder / "cat" / "few.gif", "P", 16, 16, seed=5)
    (folder / "cat" / "copy.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    (folder / "cat" / "broken.png").write_bytes(b"no picture")
    (folder / "cat" / "notes.txt").write_text("mine")
    turned = Image.new("RGB", (20, 10))
    exif = turned.getexif()
    exif[Base.Orientation] = 6
    turned.save(folder / "dog" / "phone.jpg", exif=exif)
    return folder


def test_everything_is_counted(photos: Path) -> None:
    found = survey(str(photos))
    assert found.classes == {"cat": 17, "dog": 33} and found.count == 50
    assert found.sides == (9, 9, 30) and found.longest == 40
    assert found.modes == {
        "RGB": 46, "grey": 1, "RGB with alpha": 1, "CMYK": 1, "palette": 1,
    }  # fmt: skip
    assert found.bad == {"cat/broken.png": "not an image of a known format"}
    assert found.duplicates == [["cat/0.png", "cat/copy.png"]]
    assert (found.turned, found.ignored, found.is_grey) == (1, {".txt": 1}, False)


def test_the_summary_says_it_all(photos: Path) -> None:
    found = survey(str(photos))
    text = as_text(found)
    for part in (
        "50 images of 2 classes",
        "17 (cat) to 33 (dog)",
        "9 to 30 pixels, median 9; longest side 40",
        "46 RGB, 1 ",
        "turned by EXIF     1",
        "there repeatedly   1 image, byte by byte, such as cat/0.png  =  cat/copy.png",
        "1 × .txt",
        "cat/broken.png: not an image of a known format",
    ):
        assert part in text
    assert "out of balance" not in text
    copies = [[f"{i}.png", f"{i}-copy.png"] for i in range(1200)]
    text = as_text(replace(found, duplicates=copies))
    assert (
        "  1,200 images, byte by byte, such as 0.png  =  0-copy.png; 1.png  =  1-copy.png\n" in text
    )
    assert as_json(found)["images"] == 50


def test_long_lists_are_cut() -> None:
    bad = {f"{i}.png": "empty file" for i in range(13)}
    found = Survey("p", "folder", {"a": 10, "b": 30}, bad, [], {}, 0, (8, 8, 8), 8, {"grey": 40})
    text = as_text(found)
    assert "9.png" in text and "10.png" not in text and "and 3 more" in text
    assert "out of balance" in text and found.is_grey


def test_grey_images_in_an_archive(tmp_path: Path) -> None:
    import shutil

    classes(tmp_path / "g", 10, "a", "b", mode="L")
    archive = shutil.make_archive(str(tmp_path / "g"), "zip", tmp_path / "g")
    found = survey(archive)
    assert found.kind == "zip" and found.is_grey and found.classes == {"a": 10, "b": 10}


def nothing(folder: Path) -> None:
    """Leave it out."""


def loose(folder: Path) -> None:
    picture(folder / "a.png")


def one_class(folder: Path) -> None:
    classes(folder, 10, "only")


def few(folder: Path) -> None:
    classes(folder, 10, "many")
    classes(folder, 9, "few")


def broken(folder: Path) -> None:
    for i in range(20):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * i)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (nothing, "no such folder or file"),
        (loose, "1 images are in no sub-folder"),
        (one_class, "all images are of one class, 'only'"),
        (few, "1 of 2 classes have fewer than 10 usable images: few (9)"),
        (broken, "all 20 images are bad, such as a/0.png: empty file"),
    ],
)
def test_what_cannot_be_used_is_told(
    make: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    make(tmp_path / "images")
    with pytest.raises(UserError) as caught:
        survey(str(tmp_path / "images"))
    assert text in str(caught.value) and "\n" not in str(caught.value)
