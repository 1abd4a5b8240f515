"""Held-out images: every class is in both splits, and copies in both are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import file_of, noise, pictures, settings, write_folder
from sklearn.model_selection import train_test_split

from mclr.data.images.prepare import prepare_images
from mclr.data.splits import hold_out
from mclr.errors import UserError
from mclr.files import read_json


def labels_of(counts: list[int]) -> Any:
    return np.repeat(np.arange(len(counts)), counts)


def split(counts: list[int], n_reference: int, **how: Any) -> list[list[int]]:
    """Images of each class in both splits."""
    labels = labels_of(counts)
    names = [f"c{i}" for i in range(len(counts))]
    found = hold_out(np.arange(len(labels)), labels, names, n_reference, 0, **how)
    return [np.bincount(labels[rows], minlength=len(counts)).tolist() for rows in found]


def test_splits_are_drawn_as_ever() -> None:
    labels = labels_of([30, 40, 50])
    rows = np.flatnonzero(np.arange(150) % 5)[: len(labels)]
    train, reference = train_test_split(rows, test_size=20, random_state=7, stratify=labels)
    found = hold_out(rows, labels, ["a", "b", "c"], 20, 7)
    assert found[0].tolist() == sorted(train) and found[1].tolist() == sorted(reference)
    kept = hold_out(rows, labels, ["a", "b", "c"], 20, 7, keep=True)
    assert kept[0].tolist() == rows.tolist() and kept[1].tolist() == found[1].tolist()


@pytest.mark.parametrize(
    ("counts", "n_reference", "name"),
    [
        ([100, 2], 20, "reference"),
        ([100, 3], 99, "training"),
        ([500, 30, 4], 50, "reference"),
        ([300, 5, 5, 5], 20, "reference"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_class_without_an_image_is_refused_with_numbers_that_will_do(
    counts: list[int], n_reference: int, name: str, keep: bool
) -> None:
    if keep and name == "training":
        assert all(split(counts, n_reference, keep=True)[0])
        return
    with pytest.raises(UserError) as caught:
        split(counts, n_reference, keep=keep)
    text = str(caught.value)
    small = min(counts)
    assert re.search(rf"class c\d( \(and \d more\))?, of {small} images, with none", text)
    assert f"in the {name} split" in text
    least, most = map(int, re.findall(r"a number from (\d+) to (\d+)", text)[0])
    for number in {least, (least + most) // 2, most}:
        assert all(map(all, split(counts, number, keep=keep)))
    each = int(re.findall(r"(\d+) images of each class or more", text)[0])
    assert all(map(all, split([max(each, count) for count in counts], n_reference, keep=keep)))
    assert each > small


def test_where_no_number_will_do() -> None:
    with pytest.raises(UserError, match="expected 6 images of each class or more") as caught:
        split([99, 2], 20)
    assert "a number from" not in str(caught.value)


def test_ones_own_images_without_an_image_of_a_class(tmp_path: Path) -> None:
    files = {f"many/{i}.png": file_of(noise(8, 8, i)) for i in range(40)}
    files |= {f"few/{i}.png": file_of(noise(8, 8, 100 + i)) for i in range(2)}
    source = write_folder(tmp_path / "in", files)
    with pytest.raises(UserError, match="leave class few, of 2 images, with none in the reference"):
        prepare_images(settings(source, n_reference=8), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    prepare_images(settings(source, n_reference=21), tmp_path / "out")
    splits = read_json(tmp_path / "out" / "manifest.json")["splits"]
    assert [splits[name]["class_counts"] for name in ("train", "reference")] == [[1, 20], [1, 20]]


# --- copies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["held-out", "train"])
def test_copies_in_both_splits_are_told(
    reference: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = pictures(2, 10)
    files |= {f"c{c}/again-{i}.png": files[f"c{c}/{i}.png"] for c in (0, 1) for i in range(10)}
    source = write_folder(tmp_path / "in", files)
    prepare_images(settings(source, n_reference=10, reference=reference), tmp_path / "out")
    manifest = read_json(tmp_path / "out" / "manifest.json")
    told = [r.getMessage() for r in caplog.records if "reference images are training" in r.msg]
    if reference == "train":
        assert not told and "shared_images" not in manifest, "they are, as asked for"
        return
    copies = manifest["shared_images"]
    assert 1 < len(copies) <= 10
    for name, copy in copies:
        assert name != copy and files[name] == files[copy]
    (text,) = told
    assert f"{len(copies)} reference images are training images too" in text
    assert f"such as {copies[0][0]} = {copies[0][1]}; " in text and "Remove the copies" in text


def test_copies_in_one_split_are_no_leak(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_folder(tmp_path / "in", pictures(3, 6))
    prepare_images(settings(source), tmp_path / "out")
    assert "shared_images" not in read_json(tmp_path / "out" / "manifest.json")
    assert "training images too" not in caplog.text
