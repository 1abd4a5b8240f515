"""Images of 16 bits a value, of every kind that can be read, and TIFFs that are turned."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import file_of, noise, pictures, settings, write_folder
from PIL import Image, TiffImagePlugin

from mclr.data.images.decode import Decoder
from mclr.data.images.prepare import prepare_at, prepare_images
from mclr.data.load import load_images, load_manifest
from mclr.errors import UserError
from mclr.files import read_json

SIDE = 8
FULL = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 1040  # 0 to 65,520
TWELVE = FULL >> 4  # 0 to 4,095
HIGH = (FULL >> 8).astype(np.uint8)


def grey(content: bytes, bits: int | None = None, exif: str = "ignore") -> Any:
    return Decoder("center-crop", SIDE, 1, exif, bits=bits).pixels(content)[0]


def highest(content: bytes, bits: int | None = None) -> int | None:
    return Decoder("center-crop", SIDE, 1, bits=bits).look(content).highest


def tiff(values: Any, **tags: int) -> bytes:
    """With tags by name: Orientation, PhotometricInterpretation."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    numbers = {"Orientation": 274, "PhotometricInterpretation": 262}
    for name, value in tags.items():
        info[numbers[name]] = value
    return file_of(Image.fromarray(values), "TIFF", tiffinfo=info)


def negative_tiff(values: Any) -> bytes:
    """Of 16 bits, little-endian, with 0 for white: PIL writes such files of no image."""
    return written_tiff(values.astype("<u2").tobytes(), 16, 0)


def packed_tiff(values: Any) -> bytes:
    """Of 12 bits, two values in three bytes."""
    bits = "".join(f"{value:012b}" for value in values.ravel().tolist())
    return written_tiff(int(bits, 2).to_bytes(len(bits) // 8, "big"), 12, 1)


def written_tiff(rows: bytes, bits: int, photometric: int) -> bytes:
    entries = [
        (256, 4, SIDE), (257, 4, SIDE), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (277, 3, 1), (278, 4, SIDE), (279, 4, len(rows)),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(rows))
    return start + rows + struct.pack("<H", len(entries)) + table + bytes(4)


def pgm(values: Any, top: int, magic: str = "P5") -> bytes:
    header = f"{magic} {SIDE} {SIDE} {top}\n".encode()
    if magic == "P2":
        return header + " ".join(map(str, values.ravel().tolist())).encode()
    return header + values.astype(">u2").tobytes()


def colour_png(values: Any) -> bytes:
    """A PNG of 16 bits a colour, which PIL reads and does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write_grey(values: Any, kind: str) -> bytes:
    if kind == "PGM":
        return pgm(values, 65535)
    if kind == "plain PGM":
        return pgm(values, 65535, "P2")
    if kind == "big-endian TIFF":
        return file_of(Image.fromarray(values.astype(">u2")), "TIFF")
    if kind == "packed TIFF":
        return file_of(Image.fromarray(values), "TIFF", compression="tiff_lzw")
    return file_of(Image.fromarray(values), kind)


KINDS = ("PNG", "TIFF", "big-endian TIFF", "packed TIFF", "PGM", "plain PGM")


@pytest.mark.parametrize("kind", KINDS)
def test_the_high_byte_is_kept(kind: str) -> None:
    content = write_grey(FULL, kind)
    assert np.array_equal(grey(content), HIGH)
    assert highest(content) == FULL.max()


@pytest.mark.parametrize("kind", KINDS)
def test_twelve_bits_are_rescaled_if_the_user_says_so(kind: str) -> None:
    """Without a word they are what they are, and the mean is a sixteenth."""
    content = write_grey(TWELVE, kind)
    assert np.array_equal(grey(content, bits=12), HIGH)
    assert grey(content, bits=12).mean() > 120 and grey(content).mean() < 8
    assert highest(content) == 4095 and highest(content, bits=12) is None
    with pytest.raises(UserError, match=r"a value of 4095, expected at most 1023 \(bits: 10\)"):
        grey(content, bits=10)
    assert np.array_equal(grey(write_grey(FULL, kind), bits=16), HIGH)


def test_a_range_that_the_file_tells_is_kept() -> None:
    """Highest value of a PGM, bits of TIFF and JPEG 2000; of 8-bit images nothing is told."""
    for magic in ("P5", "P2"):
        content = pgm(TWELVE, 4095, magic)
        assert (np.abs(grey(content).astype(int) - HIGH) <= 1).all() and highest(content) is None
        assert np.array_equal(grey(content, bits=12), grey(content))
    assert highest(file_of(Image.fromarray(TWELVE), "JPEG2000")) is None
    packed = packed_tiff(TWELVE)
    assert np.array_equal(grey(packed), HIGH) and highest(packed) is None
    assert np.array_equal(grey(packed, bits=10), HIGH)
    plain = file_of(Image.fromarray(HIGH), "PNG")
    assert np.array_equal(grey(plain, bits=12), HIGH) and highest(plain) is None


def test_16_bit_pgm_is_that_of_ppm() -> None:
    content = f"P6 {SIDE} {SIDE} 65535\n".encode() + np.repeat(FULL, 3).astype(">u2").tobytes()
    assert (np.abs(grey(content).astype(int) - grey(pgm(FULL, 65535))) <= 1).all()


def test_white_may_be_zero() -> None:
    """Of 16 bits as of 8, and of 12 within them."""
    assert np.array_equal(grey(negative_tiff(FULL)), 255 - HIGH)
    assert np.array_equal(grey(negative_tiff(TWELVE), bits=12), 255 - HIGH)
    eight = tiff(HIGH, PhotometricInterpretation=0)
    with Image.open(io.BytesIO(eight)) as image:
        expected = np.asarray(image)
    assert np.array_equal(grey(eight), expected)


def test_a_transparent_value_of_16_bits() -> None:
    content = file_of(Image.fromarray(FULL), "PNG", transparency=int(FULL[2, 3]))
    expected = HIGH.copy()
    expected[2, 3] = 255
    assert np.array_equal(grey(content), expected)


def test_16_bit_colour_is_watched_and_not_rescaled() -> None:
    """PIL reads its high bytes alone."""
    content = colour_png(TWELVE)
    assert np.array_equal(grey(content), (TWELVE >> 8).astype(np.uint8))
    assert highest(content) == 4095 and highest(colour_png(FULL)) == 65535
    dark = f"P6 {SIDE} {SIDE} 65535\n".encode() + np.repeat(TWELVE, 3).astype(">u2").tobytes()
    assert 4095 <= (highest(dark) or 0) < 2**14
    for colours in (content, dark):
        with pytest.raises(UserError, match="16-bit colour, of which 8 bits are read"):
            grey(colours, bits=12)
    assert np.array_equal(grey(colour_png(FULL), bits=16), HIGH)


# --- turned TIFFs ------------------------------------------------------------------------------

ORIENTED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.transpose(a), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("values", [HIGH, FULL], ids=["8", "16"])
def test_orientation_of_a_tiff_is_ignored_too(orientation: int, values: Any) -> None:
    content = tiff(values, Orientation=orientation)
    assert np.array_equal(grey(content), HIGH)
    assert np.array_equal(grey(content, exif="apply"), ORIENTED[orientation](HIGH))
    assert Decoder("scale", SIDE, 1).look(content).turned == (orientation != 1)


def test_a_turned_tiff_keeps_its_sides() -> None:
    wide = Image.fromarray(noise(4, 10)[..., 0])
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[274] = 6
    content = file_of(wide, "TIFF", tiffinfo=info)
    found, _ = Decoder("scale", SIDE, 1).open(content)
    assert np.array_equal(np.asarray(found), np.asarray(wide))


# --- what is said and recorded -----------------------------------------------------------------


def test_dark_16_bit_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The advice helps: it is followed, noted, and heeded at any resolution."""
    deep = {f"c{i % 3}/deep-{i}.png": file_of(Image.fromarray(TWELVE), "PNG") for i in range(9)}
    source = write_folder(tmp_path / "in", pictures() | deep)
    prepare_images(settings(source), tmp_path / "as-is")
    told = "9 images, such as c0/deep-0.png, of 9 with 16 bits have no value above 16,383 of 65,535"
    assert told in caplog.text and "write `bits: 12` in section data" in caplog.text
    noticed = read_json(tmp_path / "as-is" / "manifest.json")["noticed"]
    example = {"images": 9, "example": "c0/deep-0.png", "of": 9, "highest": 4095}
    assert noticed == {"low_16_bit": example}
    caplog.clear()
    folder = tmp_path / "right"
    prepare_images(settings(source, bits=12), folder)
    prepare_at(4, folder, folder / "4px")
    assert "16 bits" not in caplog.text
    means = []
    for place in (tmp_path / "as-is", folder, folder / "4px"):
        manifest = load_manifest(place / "manifest.json")
        images = load_images(place / "train.parquet", manifest)[0].float()
        means.append(float(images.mean((1, 2, 3)).min()))
        assert read_json(place / "manifest.json")["source"].get("bits") in (None, 12)
    assert means[0] < 10 and min(means[1:]) > 60


def test_dark_ones_among_bright_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Have all 16 bits, and are told without that advice."""
    files = {"c0/dark.png": TWELVE, "c0/bright.png": FULL, "c1/bright.png": FULL}
    deep = {name: file_of(Image.fromarray(values), "PNG") for name, values in files.items()}
    prepare_images(settings(write_folder(tmp_path / "in", pictures() | deep)), tmp_path / "out")
    assert "1 images, such as c0/dark.png, of 3 with 16 bits" in caplog.text
    assert "write `bits" not in caplog.text
