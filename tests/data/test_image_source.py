"""One's own images: every kind of source is indexed, checked and read to the same pixels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from picture_files import (
    file_of,
    noise,
    pictures,
    settings,
    write_edm2_zip,
    write_folder,
    write_tar,
    write_tar_of_tars,
    write_zip,
)
from PIL import Image

from mclr.data.images.prepare import prepare_at, prepare_images
from mclr.data.images.source import current_listing
from mclr.data.load import iter_images, load_images, load_labels, load_manifest
from mclr.data.transforms import TRANSFORMS, transform_image
from mclr.errors import UserError
from mclr.files import read_json, sha256
from mclr.jobs.inputs import Data

FILES = pictures()
SPLITS = ("train", "reference")


def prepared(tmp_path: Path, source: Path | str, name: str = "prepared", **changes: Any) -> Path:
    folder = tmp_path / name
    prepare_images(settings(source, **changes), folder)
    return folder


def test_a_number_of_images_that_must_be_there(tmp_path: Path) -> None:
    """What steps in epochs follow from is compared with what is there."""
    source = write_folder(tmp_path / "pictures", FILES)
    prepared(tmp_path, source, count=len(FILES))
    with pytest.raises(UserError, match=r"data\.count: 1,281,167 images expected, .* has 18 us"):
        prepared(tmp_path, source, "other", count=1_281_167)


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return pq.ParquetFile(folder / f"{split}.parquet").read().to_pylist()


def image_of(folder: Path, name: str) -> torch.Tensor:
    """Pixels of one image by its name."""
    manifest = load_manifest(folder / "manifest.json")
    for split in SPLITS:
        for row, known in enumerate(rows_of(folder, split)):
            if known["name"] == name:
                path = folder / f"{split}.parquet"
                return load_images(path, manifest, torch.tensor([row]))[0][0]
    raise KeyError(name)


def expected_pixels(content: bytes, transform: str = "center-crop-dhariwal") -> torch.Tensor:
    rgb = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    return torch.from_numpy(transform_image(transform, rgb, 8, 8).copy()).permute(2, 0, 1)


SOURCES: dict[str, Callable[[Path], Path]] = {
    "folder": lambda p: write_folder(p / "photos", FILES),
    "folder in a folder": lambda p: write_folder(p / "photos" / "train", FILES).parent,
    "tar": lambda p: write_tar(p / "photos.tar", FILES),
    "tar of one folder": lambda p: write_tar(p / "photos.tar", FILES, "./my photos/"),
    "tar of tars": lambda p: write_tar_of_tars(p / "photos.tar", FILES),
    "zip": lambda p: write_zip(p / "photos.zip", FILES),
    "deflated zip": lambda p: write_zip(p / "photos.ZIP", FILES, zipfile.ZIP_DEFLATED),
    "EDM2 zip": lambda p: write_edm2_zip(p / "photos.zip", FILES),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_has_the_same_images(kind: str, tmp_path: Path) -> None:
    folder = prepared(tmp_path, SOURCES[kind](tmp_path), classes=3)
    manifest, content = load_manifest(folder / "manifest.json"), read_json(folder / "manifest.json")
    names = ("0", "1", "2") if kind == "EDM2 zip" else ("c0", "c1", "c2")
    assert (manifest.shape, manifest.class_names) == ((3, 8, 8), names)
    by_digest = {hashlib.sha256(content).hexdigest(): name for name, content in FILES.items()}
    seen = []
    for split in SPLITS:
        path = folder / f"{split}.parquet"
        images, labels = load_images(path, manifest)
        rows = rows_of(folder, split)
        assert manifest.hashes[split] == sha256(path)
        for row, image, label in zip(rows, images, labels, strict=True):
            name = by_digest[row["sha256"]]
            assert torch.equal(image, expected_pixels(FILES[name])), name
            assert row["label"] == label == int(name[1]) and row["bytes"] == len(FILES[name])
            seen.append(row["index"])
        assert content["splits"][split]["count"] == len(rows)
        each = {"train": 4, "reference": 2}[split]
        assert content["splits"][split]["class_counts"] == [each] * 3
    assert sorted(seen) == list(range(18))


@pytest.mark.parametrize("transform", ["center-crop", "scale", "var"])
def test_transforms_are_those_of_photographs(transform: str, tmp_path: Path) -> None:
    assert transform in TRANSFORMS
    folder = prepared(tmp_path, write_folder(tmp_path / "in", FILES), transform=transform)
    found = image_of(folder, "c1/2.png")
    assert torch.equal(found, expected_pixels(FILES["c1/2.png"], transform))


def test_a_model_may_have_its_own_transform(tmp_path: Path) -> None:
    """The index and its reference stay the tier's."""
    folder = prepared(tmp_path, write_folder(tmp_path / "in", FILES))
    names = [row["name"] for row in rows_of(folder, "train")]
    for transform, expected in ((None, "center-crop-dhariwal"), ("var", "var")):
        data = Data(folder, transform)
        pixels = torch.stack([expected_pixels(FILES[name], expected) for name in names])
        assert torch.equal(data.train()[0], pixels)
        assert torch.equal(torch.cat([images for images, _ in data.batches("train", 5)]), pixels)
    assert not torch.equal(Data(folder, "var").train()[0], Data(folder).train()[0])


def test_batches_are_the_whole_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, by any number of threads and from any row; of pixels on disk as of files."""
    folder = prepared(tmp_path, write_folder(tmp_path / "in", FILES))
    manifest, path = load_manifest(folder / "manifest.json"), folder / "train.parquet"
    images, labels = load_images(path, manifest)
    assert torch.equal(load_labels(path), labels)
    for batch, start, threads in ((5, 0, 1), (4, 4, 3), (100, 0, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        parts = list(iter_images(path, manifest, batch, start))
        assert [len(part) for part, _ in parts[:-1]] == [batch] * (len(parts) - 1)
        assert torch.equal(torch.cat([part for part, _ in parts]), images[start:])
        assert torch.equal(torch.cat([part for _, part in parts]), labels[start:])
    assert list(iter_images(path, manifest, 4, len(images))) == []
    rows = torch.tensor([7, 0, 7])
    some, same = load_images(path, manifest, rows)
    assert torch.equal(some, images[rows]) and torch.equal(same, labels[rows])


def test_batches_of_a_stored_split(prepared: Path) -> None:
    manifest, path = load_manifest(prepared / "manifest.json"), prepared / "train.parquet"
    images, labels = load_images(path, manifest)
    parts = list(iter_images(path, manifest, 300, 100))
    assert torch.equal(torch.cat([part for part, _ in parts]), images[100:])
    assert torch.equal(torch.cat([part for _, part in parts]), labels[100:])
    assert torch.equal(load_images(path, manifest, torch.tensor([3, 1]))[0], images[[3, 1]])


# --- kinds of image files ----------------------------------------------------------------------


def with_odd_files(tmp_path: Path, odd: dict[str, bytes], **changes: Any) -> Path:
    return prepared(tmp_path, write_folder(tmp_path / "in", FILES | odd), **changes)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    """By PIL's conversion, as ADM and EDM2; of 16 bits the high byte."""
    rgb = Image.fromarray(noise(10, 14, 7))
    deep = np.random.default_rng(0).integers(2**16, size=(10, 12), dtype=np.uint16)
    odd = {
        "c0/cmyk.jpg": file_of(rgb.convert("CMYK"), "JPEG"),
        "c0/grey.jpeg": file_of(rgb.convert("L"), "JPEG"),
        "c0/palette.gif": file_of(rgb.quantize(16), "GIF"),
        "c0/palette.png": file_of(rgb.quantize(16), "PNG"),
        "c0/grey-alpha.png": file_of(rgb.convert("LA"), "PNG"),
        "c0/black-and-white.tif": file_of(rgb.convert("1"), "TIFF"),
        "c0/photo.webp": file_of(rgb, "WEBP", lossless=True),
        "c0/photo.bmp": file_of(rgb, "BMP"),
        "c0/wrong-ending.JPEG": file_of(rgb, "PNG"),
    }
    deep_file = {"c0/deep.png": file_of(Image.fromarray(deep), "PNG")}
    folder = with_odd_files(tmp_path, odd | deep_file, n_reference=5)
    for name, content in odd.items():
        assert torch.equal(image_of(folder, name), expected_pixels(content)), name
    high = file_of(Image.fromarray((deep >> 8).astype(np.uint8)), "PNG")
    assert torch.equal(image_of(folder, "c0/deep.png"), expected_pixels(high))


def test_grey_data(tmp_path: Path) -> None:
    rgb = Image.fromarray(noise(8, 8, 7))
    folder = with_odd_files(tmp_path, {"c0/rgb.png": file_of(rgb)}, channels=1)
    assert load_manifest(folder / "manifest.json").shape == (1, 8, 8)
    expected = torch.from_numpy(np.array(rgb.convert("L")))[None]
    assert torch.equal(image_of(folder, "c0/rgb.png"), expected)


def test_orientation_is_ignored_unless_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(noise(8, 8, 7))
    odd = {"c0/turned.png": file_of(image, "PNG", exif=exif)}
    plain = with_odd_files(tmp_path, odd)
    assert "1 images are turned by EXIF" in caplog.text and "`exif: apply`" in caplog.text
    turned = with_odd_files(tmp_path, odd, name="turned", exif="apply")
    found = image_of(plain, "c0/turned.png")
    assert torch.equal(found, expected_pixels(odd["c0/turned.png"]))
    assert torch.equal(image_of(turned, "c0/turned.png"), torch.rot90(found, -1, (1, 2)))
    assert read_json(plain / "manifest.json")["turned_by_exif"] == 1
    assert sha256(plain / "train.parquet") != sha256(turned / "train.parquet")


# --- bad images --------------------------------------------------------------------------------

BAD = {
    "c0/empty.png": (b"", "empty file"),
    "c0/text.jpg": (b"<html>not found</html>", "not an image of a known format"),
    "c1/one.png": (file_of(noise(1, 1)), "1×1 pixels"),
    "c1/line.png": (file_of(noise(1, 40)), "40×1 pixels"),
    "c2/float.tif": (file_of(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "type F"),
    "c2/cut.jpg": (file_of(noise(40, 40), "JPEG")[:-300], "truncated"),
    "c2/cut.png": (file_of(noise(40, 40))[:-200], ""),
    "c2/flipped.png": (file_of(noise(40, 40)).replace(b"IDAT", b"ID\0T"), ""),
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_bad_images_are_all_listed(kind: str, tmp_path: Path) -> None:
    files = FILES | {name: content for name, (content, _) in BAD.items()}
    source = write_folder(tmp_path / "in", files)
    if kind == "zip":
        source = write_zip(tmp_path / "in.zip", files)
    else:
        (source / "c1" / "gone.png").symlink_to("nowhere.png")
    report = tmp_path / "prepared" / "bad-images.txt"
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, source)
    bad = set(BAD) | ({"c1/gone.png"} if kind == "folder" else set())
    text = str(caught.value)
    assert f"{len(bad)} of {18 + len(bad)} images are bad, such as c0/empty.png: empty" in text
    assert str(report) in text and "on_bad_image: skip" in text
    assert [file.name for file in report.parent.iterdir()] == [report.name]
    listed = dict(line.split(": ", 1) for line in report.read_text().splitlines())
    assert listed.keys() == bad
    assert all(BAD[name][1] in listed[name] for name in BAD)
    folder = prepared(tmp_path, source, on_bad_image="skip")
    assert read_json(folder / "manifest.json")["bad_images"] == listed
    assert sum(len(rows_of(folder, split)) for split in SPLITS) == 18
    for name in bad:
        (tmp_path / "in" / name).unlink(missing_ok=True)
    if kind == "folder":
        prepared(tmp_path, source)
        assert not report.exists()


def test_files_in_several_processes_are_found_the_same(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", pictures(2, 40))
    for threads, name in ((1, "one"), (2, "two")):
        prepare_images(settings(source), tmp_path / name, threads)
    assert sha256(tmp_path / "one" / "manifest.json") == sha256(tmp_path / "two" / "manifest.json")


def test_odd_files_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Copies, other files and an imbalance are told; hidden files and system files are not seen."""
    junk = (".DS_Store", "c0/._0.png", "__MACOSX/c0/._0.png", "c1/Thumbs.db", ".git/0.png")
    odd = dict.fromkeys(junk, b"junk") | {"readme.txt": b"!", "c0/notes": b"!", "c2/n.TXT": b"!"}
    copies = {"c2/copy.png": FILES["c0/0.png"], "c2/more.png": FILES["c0/0.png"]}
    extra = {f"c2/extra-{i}.png": file_of(noise(8, 8, 50 + i)) for i in range(5)}
    folder = with_odd_files(tmp_path, odd | copies | extra)
    content = read_json(folder / "manifest.json")
    assert content["duplicates"] == [["c0/0.png", "c2/copy.png", "c2/more.png"]]
    assert content["ignored_files"] == {"": 1, ".txt": 2}
    assert content["bad_images"] == {}
    assert "1 images are there more than once" in caplog.text
    assert "6 to 13 images per class" in caplog.text


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    away = write_folder(tmp_path / "away", {n[3:]: c for n, c in FILES.items() if n[1] == "0"})
    source = write_folder(tmp_path / "in", {n: c for n, c in FILES.items() if n[1] != "0"})
    (source / "c0").symlink_to(away)
    (source / "c1" / "up").symlink_to(source)
    (source / "c2" / "linked.png").symlink_to(away / "1.png")
    (tmp_path / "link").symlink_to(source)
    folder = prepared(tmp_path, tmp_path / "link")
    names = [row["name"] for split in SPLITS for row in rows_of(folder, split)]
    assert sorted(names) == sorted([*FILES, "c2/linked.png"])


# --- mistakes ----------------------------------------------------------------------------------


def refused(tmp_path: Path, source: Path | str, text: str, **changes: Any) -> None:
    with pytest.raises(UserError, match=text):
        prepared(tmp_path, source, **changes)
    assert not (tmp_path / "prepared" / "manifest.json").exists()


def test_mistakes_in_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", FILES)
    refused(tmp_path, folder, r"data\.classes: 10 classes expected, .* has 3: c0", classes=10)
    refused(tmp_path, folder, r"n_reference: 2 of 18 images leave a split", n_reference=2)
    refused(tmp_path, folder, r"n_reference: 17 of 18 images", n_reference=17)
    (folder / "c3").mkdir()
    refused(tmp_path, folder, "1 classes without images: c3; remove")
    write_folder(folder, {"c3/only.png": FILES["c0/0.png"]})
    refused(tmp_path, folder, "1 classes have fewer than two usable images: c3")
    write_folder(folder, {"loose.png": FILES["c0/0.png"]})
    refused(tmp_path, folder, r"1 images are in no sub-folder \(loose.png\)")
    one = write_folder(tmp_path / "one", {n: c for n, c in FILES.items() if n[1] == "0"})
    refused(tmp_path, one, "all images are of one class, 'c0'")
    none = write_folder(tmp_path / "none", {"a/b.txt": b"", "a/c.h5": b""})
    refused(tmp_path, none, r"no images found; expected files ending in .*1 × \.h5, 1 × \.txt")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, tmp_path / "empty", "no images found; it is empty")


def test_mistakes_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHOTOS", raising=False)
    refused(tmp_path, "$PHOTOS/train", r"data\.path: .*variable PHOTOS is not set; set it")
    refused(tmp_path, "${PHOTOS}/train", "variable PHOTOS is not set")
    refused(tmp_path, tmp_path / "absent", "no such folder or file; expected a folder with")
    (tmp_path / "in.tar.gz").write_bytes(b"")
    refused(tmp_path, tmp_path / "in.tar.gz", "compressed tar cannot be read out of order")
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    write_folder(tmp_path / "train", FILES)
    folder = prepared(tmp_path, "$PHOTOS/train")
    assert read_json(folder / "manifest.json")["source"]["path"] == "$PHOTOS/train"
    assert len(load_images(folder / "train.parquet", load_manifest(folder / "manifest.json"))[0])
    monkeypatch.chdir(tmp_path)
    assert len(rows_of(prepared(tmp_path, "train", "relative"), "train")) == 12


@pytest.mark.parametrize(
    "name", ["../c0/0.png", "/c0/0.png", "c0/../../0.png", "c0\\0.png", "C:/c0/0.png"]
)
def test_unsafe_names_in_archives_are_refused(name: str, tmp_path: Path) -> None:
    files = FILES | {name: FILES["c0/0.png"]}
    refused(tmp_path, write_tar(tmp_path / "in.tar", files), "unsafe name")
    refused(tmp_path, write_zip(tmp_path / "in.zip", files), "unsafe name")


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    tar, archive = write_tar(tmp_path / "a.tar", FILES), write_zip(tmp_path / "a.zip", FILES)
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2 + 700])
    refused(tmp_path, tar, "not a whole, uncompressed tar")
    tar.write_bytes(b"x" * 2000)
    refused(tmp_path, tar, "not a whole, uncompressed tar")
    archive.write_bytes(archive.read_bytes()[:-30])
    refused(tmp_path, archive, "not a whole zip")
    packed = write_zip(tmp_path / "b.zip", FILES, zipfile.ZIP_BZIP2)
    refused(tmp_path, packed, "packed by a method other than deflate")
    with tarfile.open(tmp_path / "links.tar", "w") as links:
        info = tarfile.TarInfo("c0/link.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        links.addfile(info)
    refused(tmp_path, tmp_path / "links.tar", r"c0/link\.png is a link or no plain file")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (None, "expected .*labels.*as EDM2's tools write for labelled images"),
        ([["c0/0.png", [0.5]]], "expected .*class number"),
        ([[name, 0] for name in list(FILES)[1:]], "1 images without a label: c0/0.png"),
        ([[name, 0] for name in [*FILES, "x"]], "1 labels without an image: x"),
        ([[name, 2 * int(name[1])] for name in FILES], "got 0 to 4; no images of 1, 3"),
        ([[name, int(name[1]) - 1] for name in FILES], "numbered from 0 without gaps, got -1 to 1"),
    ],
)
def test_mistakes_in_edm2_labels(labels: Any, text: str, tmp_path: Path) -> None:
    files = FILES | {"dataset.json": json.dumps({"labels": labels}).encode()}
    refused(tmp_path, write_zip(tmp_path / "in.zip", files), text)


def test_another_dataset_json_is_no_label_file(tmp_path: Path) -> None:
    folder = with_odd_files(tmp_path, {"dataset.json": b'{"author": "me"}'})
    assert load_manifest(folder / "manifest.json").class_names == ("c0", "c1", "c2")
    source = write_folder(tmp_path / "broken", FILES | {"dataset.json": b"{"})
    refused(tmp_path / "other", source, "dataset.json: not valid JSON")


# --- splits and resolutions --------------------------------------------------------------------


def test_reference_of_training_images(tmp_path: Path) -> None:
    """They stay training images; without a number, all of them are the reference."""
    source = write_folder(tmp_path / "in", FILES)
    drawn = prepared(tmp_path, source, "drawn", reference="train")
    everything = prepared(tmp_path, source, "all", reference="train", n_reference=None)
    for folder, n in ((drawn, 6), (everything, 18)):
        train, reference = (rows_of(folder, split) for split in SPLITS)
        assert [row["index"] for row in train] == list(range(18))
        assert len(reference) == n and all(row in train for row in reference)
    assert read_json(drawn / "manifest.json")["splits"]["reference"]["class_counts"] == [2, 2, 2]
    same = prepared(tmp_path, source, "same", reference="train")
    other = prepared(tmp_path, source, "other", reference="train", split_seed=1)
    assert sha256(same / "manifest.json") == sha256(drawn / "manifest.json")
    assert rows_of(other, "reference") != rows_of(drawn, "reference")


def test_mirror_images_are_training_images_too(tmp_path: Path) -> None:
    """Each after all others, with its label; at every resolution, and never in the reference."""
    source = write_folder(tmp_path / "pictures", FILES)
    plain, folder = prepared(tmp_path, source), prepared(tmp_path, source, "flipped", flip=True)
    smaller = tmp_path / "smaller"
    prepare_at(8, folder, smaller)
    manifest = load_manifest(folder / "manifest.json")
    images, labels = load_images(plain / "train.parquet", load_manifest(plain / "manifest.json"))
    n = len(labels)
    assert not torch.equal(images, images.flip(-1))
    for found in (
        load_images(folder / "train.parquet", manifest),
        tuple(
            map(torch.cat, zip(*iter_images(folder / "train.parquet", manifest, 5), strict=True))
        ),
    ):
        assert torch.equal(found[0], torch.cat([images, images.flip(-1)]))
        assert torch.equal(found[1], torch.cat([labels, labels]))
    few, of_few = load_images(smaller / "train.parquet", load_manifest(smaller / "manifest.json"))
    assert torch.equal(few[n:], few[:n].flip(-1)) and torch.equal(of_few[n:], labels)
    assert rows_of(folder, "reference") == rows_of(plain, "reference")
    counts = {name: manifest.class_counts[name] for name in SPLITS}
    assert counts["train"] == tuple(torch.bincount(torch.cat([labels, labels])).tolist())
    assert manifest.hashes["train"] != load_manifest(plain / "manifest.json").hashes["train"]
    assert settings(source, count=len(FILES), flip=True).n_train == 2 * n


def test_another_resolution_has_the_same_splits(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", FILES)
    folder = prepared(tmp_path, source)
    prepare_at(4, folder, tmp_path / "4px")
    direct = prepared(tmp_path, source, "direct", resolution=4)
    for name in ("train.parquet", "reference.parquet", "manifest.json"):
        assert sha256(tmp_path / "4px" / name) == sha256(direct / name)
        assert sha256(tmp_path / "4px" / name) != sha256(folder / name)
    manifest = load_manifest(direct / "manifest.json")
    assert load_images(direct / "train.parquet", manifest)[0].shape == (12, 3, 4, 4)


# --- changes after the preparation -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "deflated zip"])
def test_changed_images_are_noticed_when_read(kind: str, tmp_path: Path) -> None:
    source = SOURCES[kind](tmp_path)
    folder = prepared(tmp_path, source)
    manifest, path = load_manifest(folder / "manifest.json"), folder / "train.parquet"
    name = rows_of(folder, "train")[3]["name"]
    again = f"delete {folder} and run `snakemake` again"
    if kind == "folder":
        (source / name).write_bytes(file_of(noise(9, 9)))
        with pytest.raises(UserError, match=f"{name}: has other bytes than .*{again}"):
            load_images(path, manifest)
        (source / name).unlink()
        with pytest.raises(UserError, match=rf"{name}: cannot be read \(No such file.*{again}"):
            list(iter_images(path, manifest, 4))
        return
    write_zip(source, dict(sorted(FILES.items(), reverse=True)), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=again):
        load_images(path, manifest)
    source.unlink()
    with pytest.raises(UserError, match="No such file"):
        load_images(path, manifest)


@pytest.mark.parametrize("kind", ["folder", "tar", "EDM2 zip"])
def test_listing_changes_with_the_images_and_not_with_their_place(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES[kind](tmp_path)
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    data = settings(f"$PHOTOS/{source.name}")
    manifest = prepared(tmp_path, f"$PHOTOS/{source.name}") / "manifest.json"
    stored = read_json(manifest)["source"]["listing"]
    assert current_listing(data, manifest) == stored
    (tmp_path / "elsewhere").mkdir()
    source.rename(tmp_path / "elsewhere" / source.name)
    assert current_listing(data, manifest) == stored, "not readable here: as it was"
    assert current_listing(data, tmp_path / "absent") == ""
    monkeypatch.setenv("PHOTOS", str(tmp_path / "elsewhere"))
    moved = tmp_path / "elsewhere" / source.name
    os.utime(moved, (0, 0))
    assert current_listing(data, manifest) == stored
    if kind == "folder":
        write_folder(moved, {"readme.txt": b""})
        assert current_listing(data, manifest) == stored
        write_folder(moved, {"c0/new.png": b""})
    elif kind == "tar":
        write_tar(moved, FILES | {"c0/new.png": b""})
    else:  # the same size, other labels
        write_edm2_zip(moved, {f"c{2 - int(n[1])}{n[2:]}": c for n, c in FILES.items()})
    assert current_listing(data, manifest) != stored
