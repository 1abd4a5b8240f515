"""While images are decoded their pictures are watched: constant ones, first frames of several."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import file_of, noise, pictures, settings, write_folder
from PIL import Image

from mclr.data.images.decode import Decoder, Seen
from mclr.data.images.noticed import in_words, notice
from mclr.data.images.prepare import prepare_images
from mclr.files import read_json

DECODER = Decoder("center-crop", 8, 3)


def several(kind: str, n: int = 3, **how: Any) -> bytes:
    frames = [Image.fromarray(noise(8, 8, i)) for i in range(n)]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:], **how)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "AVIF"])
def test_the_first_of_several(kind: str) -> None:
    """It is the picture, as it would be alone, and is known to have others after it."""
    how: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    content, alone = several(kind, **how), several(kind, 1, **how)
    assert DECODER.look(content).is_first and not DECODER.look(alone).is_first
    if kind != "AVIF":  # which compresses a sequence otherwise
        assert np.array_equal(DECODER.pixels(content), DECODER.pixels(alone))


def test_a_gif_that_ends_within_its_second_frame_is_usable() -> None:
    content = several("GIF")
    cut = content[: len(several("GIF", 1)) + 30]
    assert np.array_equal(DECODER.pixels(cut), DECODER.pixels(content))
    DECODER.look(cut)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_one_colour_throughout(mode: str) -> None:
    def content(colour: int) -> bytes:
        base = Image.new("L", (9, 8), colour)
        image = base.convert("RGB").convert(mode) if mode != "I;16" else Image.fromarray(
            np.full((8, 9), 257 * colour, np.uint16)
        )  # fmt: skip
        if other is not None:
            image.putpixel((4, 4), other)
        return file_of(image, "TIFF" if mode == "CMYK" else "PNG")

    other: Any = None
    assert DECODER.look(content(255)).is_constant
    other = {"1": 0, "L": 9, "P": 9, "I;16": 9, "LA": (9, 255), "RGB": (9, 255, 255)}.get(
        mode, (9, 255, 255, 255)
    )
    assert not DECODER.look(content(255)).is_constant


def test_what_is_constant_on_its_background() -> None:
    """White glyphs on nothing are white on white, and 8 bits of few bits of 16 are black."""
    mask = noise(8, 8)[..., 0]
    glyph = file_of(Image.fromarray(np.dstack([np.full((8, 8, 3), 255, np.uint8), mask])), "PNG")
    assert DECODER.look(glyph).is_constant
    assert not Decoder("center-crop", 8, 3, background="#000000").look(glyph).is_constant
    few = file_of(Image.fromarray(noise(8, 8)[..., 0].astype(np.uint16)), "PNG")
    assert DECODER.look(few).is_constant
    assert not Decoder("center-crop", 8, 3, bits=8).look(few).is_constant


def test_all_is_told_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a number and a name, of usable images alone."""
    grey = file_of(Image.new("RGB", (8, 8), "grey"), "PNG")
    odd = {
        **{"c0/a.gif": several("GIF"), "c1/a.tif": several("TIFF")},
        **{"c1/grey.png": grey, "c2/grey.png": grey, "c2/none.png": b""},
    }
    source = write_folder(tmp_path / "in", pictures() | odd)
    for threads, name in ((1, "one"), (2, "two")):
        prepare_images(settings(source, on_bad_image="skip"), tmp_path / name, threads)
        noticed = read_json(tmp_path / name / "manifest.json")["noticed"]
        assert noticed == {
            "constant": {"images": 2, "example": "c1/grey.png"},
            "first_of_several": {"images": 2, "example": "c0/a.gif"},
        }
    assert "2 images, such as c0/a.gif, are the first of several frames or pages" in caplog.text
    assert "2 images, such as c1/grey.png, have one colour throughout" in caplog.text
    caplog.clear()
    plain = write_folder(tmp_path / "plain", pictures())
    prepare_images(settings(plain), tmp_path / "three")
    assert not caplog.text


def test_the_advice_names_enough_bits() -> None:
    for values, bits in (((100, 255), 8), ((256,), 9), ((4095, 12), 12), ((4096,), 13)):
        seen = [Seen(highest=value) for value in values]
        (told,) = in_words(notice([*map(str, values)], seen), "#ffffff")
        found = re.search(r"write `bits: (\d+)`", told)
        assert found and int(found[1]) == bits
        for value in values:
            deep = file_of(Image.fromarray(np.full((8, 8), value, np.uint16)), "PNG")
            assert DECODER.look(deep).highest == value
            Decoder("center-crop", 8, 3, bits=bits).pixels(deep)
