"""What is transparent shows the background, and not what happens to lie under it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from picture_files import file_of, noise, pictures, settings, write_folder
from PIL import Image
from pydantic import ValidationError

from mclr.data.images.decode import Decoder
from mclr.data.images.prepare import prepare_at, prepare_images
from mclr.data.load import load_images, load_manifest
from mclr.files import read_json, sha256
from mclr.settings.data import OwnImages
from mclr.settings.section import canonical

SIDE = 8
RED = (255, 0, 0)
ALPHA = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) * 4
ALPHA[0], ALPHA[1] = 0, 255


def pixels(content: bytes, background: str = "#ffffff", channels: int = 3) -> Any:
    """Of an image of 8×8 pixels, which no transform changes: (8, 8, channels)."""
    decoder = Decoder("center-crop", SIDE, channels, background=background)
    return decoder.pixels(content).transpose(1, 2, 0)


def is_transparent(content: bytes) -> bool:
    return Decoder("center-crop", SIDE, 3).look(content).is_transparent


def over(colours: Any, alpha: Any, ground: tuple[int, int, int]) -> Any:
    """α c + (1 − α) b, of colours (8, 8, 3) and alpha (8, 8) in 0 to 255."""
    share = (alpha / 255)[..., None]
    return share * colours + (1 - share) * np.array(ground)


def close(found: Any, expected: Any) -> None:
    assert np.abs(found - expected).max() <= 1  # PIL rounds


COLOURS = noise(SIDE, SIDE, 3)
RGBA = Image.fromarray(np.dstack([COLOURS, ALPHA]))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "JPEG2000"])
def test_alpha_channel(kind: str) -> None:
    how = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = file_of(RGBA, kind, **how)
    again = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(int)
    for name, ground in (("#ffffff", (255, 255, 255)), ("#00ff80", (0, 255, 128))):
        close(pixels(content, name), over(again[..., :3], again[..., 3], ground))
    assert is_transparent(content)
    if kind == "PNG":
        assert (pixels(content, "#00ff80")[0] == (0, 255, 128)).all(), "α = 0"
        assert (pixels(content, "#00ff80")[1] == COLOURS[1]).all(), "α = 1"


def test_grey_with_alpha() -> None:
    grey = COLOURS[..., 0]
    content = file_of(Image.fromarray(np.dstack([grey, ALPHA])), "PNG")
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "LA"
    close(pixels(content), over(np.repeat(grey[..., None], 3, 2), ALPHA, (255, 255, 255)))
    close(pixels(content, channels=1), over(grey[..., None], ALPHA, (255, 255, 255))[..., :1])


def test_black_glyphs_on_nothing_are_black_on_white() -> None:
    """As an icon has them: all its colours are black, transparent or not."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:6, 3:5] = 255
    glyph = Image.fromarray(np.dstack([np.zeros((SIDE, SIDE, 3), np.uint8), mask]))
    found = pixels(file_of(glyph, "PNG"), channels=1)[..., 0]
    assert np.array_equal(found, 255 - mask)


@pytest.mark.parametrize("table", ["index", "bytes"])
def test_transparent_palette(table: str) -> None:
    """tRNS of a PNG and of a GIF: one colour of the palette, or an alpha for each."""
    image = Image.fromarray(COLOURS).quantize(8)
    index, palette = np.asarray(image), np.array(image.getpalette()).reshape(-1, 3)
    alphas = np.full(8, 255)
    alphas[3] = 0
    if table == "bytes":
        alphas[:3] = 0, 100, 200
    clear: Any = 3 if table == "index" else bytes(alphas.tolist())
    expected = over(palette[index], alphas[index], RED)
    for kind in ("PNG", "GIF")[: 2 if table == "index" else 1]:
        content = file_of(image, kind, transparency=clear)
        assert is_transparent(content), kind
        close(pixels(content, "#ff0000"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_one_transparent_colour(mode: str) -> None:
    """tRNS of a PNG without palette."""
    image = Image.fromarray(COLOURS).quantize(4).convert(mode)
    colour: Any = image.getpixel((0, 0))
    content = file_of(image, "PNG", transparency=255 if mode == "1" and colour else colour)
    values = np.asarray(image.convert("RGB"))
    clear = (values == values[0, 0]).all(-1)
    assert 0 < clear.sum() < clear.size and is_transparent(content)
    close(pixels(content, "#ff0000"), np.where(clear[..., None], RED, values))


@pytest.mark.parametrize("bits", [2, 4])
def test_transparent_grey_of_few_bits(bits: int) -> None:
    """A PNG of 2 or 4 bits a pixel names the transparent value in its own bits."""
    content = few_bits(bits, clear=2)
    expected = np.where(np.arange(SIDE) % 4 == 2, 255, np.arange(SIDE) % 4 * (255 // (2**bits - 1)))
    assert is_transparent(content)
    assert np.array_equal(pixels(content, channels=1)[0, :, 0], expected)


def few_bits(bits: int, clear: int) -> bytes:
    """A grey PNG whose rows are the values 0, 1, 2, 3, 0, …, of ``bits`` each."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    row = "".join(f"{i % 4:0{bits}b}" for i in range(SIDE))
    packed = bytes([0]) + int(row, 2).to_bytes(SIDE * bits // 8, "big")
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", clear))
    return (
        b"\x89PNG\r\n\x1a\n"
        + body
        + chunk(b"IDAT", zlib.compress(packed * SIDE))
        + chunk(b"IEND", b"")
    )


def test_opaque_alpha_is_none() -> None:
    full = np.full((SIDE, SIDE), 255, np.uint8)
    for image in (
        Image.fromarray(np.dstack([COLOURS, full])),
        Image.fromarray(np.dstack([COLOURS[..., 0], full])),
    ):
        content = file_of(image, "PNG")
        assert not is_transparent(content)
        assert np.array_equal(pixels(content, "#ff0000"), np.asarray(image.convert("RGB")))
    unused = Image.fromarray(COLOURS).quantize(8)
    content = file_of(unused, "GIF", transparency=200)
    assert not is_transparent(content)
    assert np.array_equal(pixels(content), np.asarray(unused.convert("RGB")))


# --- what is said and recorded -----------------------------------------------------------------

GLYPHS = {f"c{i % 3}/glyph-{i}.png": file_of(RGBA, "PNG") for i in range(3)}


def prepared(tmp_path: Path, name: str, files: dict[str, bytes], **changes: Any) -> Path:
    source = tmp_path / "in"
    if not source.exists():
        write_folder(source, files)
    prepare_images(settings(source, **changes), tmp_path / name)
    return tmp_path / name


def test_transparent_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the log and in the manifest; the background is a part of what the index is hashed over."""
    files = pictures() | GLYPHS
    white = prepared(tmp_path, "white", files)
    assert "3 images, such as c0/glyph-0.png, are transparent in places" in caplog.text
    assert "put on #ffffff" in caplog.text and "`background` in section data" in caplog.text
    content = read_json(white / "manifest.json")
    assert content["noticed"] == {"transparent": {"images": 3, "example": "c0/glyph-0.png"}}
    assert content["source"]["background"] == "#ffffff"
    red = prepared(tmp_path, "red", files, background="Red")
    assert read_json(red / "manifest.json")["source"]["background"] == "#ff0000"
    images = []
    for folder in (white, red):
        manifest = load_manifest(folder / "manifest.json")
        images.append(load_images(folder / "train.parquet", manifest)[0])
        prepare_at(4, folder, folder / "4px")
        smaller = read_json(folder / "4px" / "manifest.json")
        assert smaller["source"]["background"] == manifest.own.decoding["background"]  # type: ignore[union-attr]
    assert (images[0] != images[1]).flatten(1).any(1).sum() > 0
    assert sha256(white / "train.parquet") != sha256(red / "train.parquet")
    assert sha256(white / "4px" / "train.parquet") != sha256(red / "4px" / "train.parquet")


def test_where_nothing_is_transparent_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And index and manifest are, byte by byte, those of before there was a background."""
    folder = prepared(tmp_path, "plain", pictures())
    assert "transparent" not in caplog.text
    content = read_json(folder / "manifest.json")
    assert "noticed" not in content
    assert set(content["source"]) == {"name", "path", "kind", "transform", "exif", "listing"}
    about = pq.read_schema(folder / "train.parquet").metadata[b"pixels"]
    assert about == (
        b'{"channels": 3, "exif": "ignore", "resolution": 8, "transform": "center-crop-dhariwal"}'
    )


def test_background_in_the_configuration(tmp_path: Path) -> None:
    """A default leaves no trace in a specification; what is no colour is refused."""
    plain = settings("p")
    assert '"background"' not in canonical(plain) and '"bits"' not in canonical(plain)
    for same in ("white", "#FFFFFF", "White"):
        assert canonical(settings("p", background=same)) == canonical(plain)
    other = settings("p", background="Tomato")
    assert '"background":"#ff6347"' in canonical(other)
    assert OwnImages.model_validate_json(canonical(other)) == other
    for wrong in ("whiteish", "#fff0", None, 3):
        with pytest.raises(ValidationError, match=r"no colour; expected a name, .* or '#rrggbb'"):
            settings("p", background=wrong)
