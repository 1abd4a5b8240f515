"""Raw digits to splits: what is written is right, and corrupt input writes nothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from sklearn.datasets import load_digits

from mclr.cli import cli
from mclr.data.load import load_images, load_manifest
from mclr.data.prepare import average_down, check, prepare
from mclr.data.raw import RawImages, expected, verify
from mclr.data.sources import fetch, read_digits
from mclr.errors import UserError
from mclr.files import read_json, sha256
from mclr.settings.data import Data

SETTINGS = Data(source="digits", n_reference=797, split_seed=0)
RAW = Path("raw")


def rows_of(path: Path) -> list[int]:
    column: list[int] = pq.read_table(path)["index"].to_pylist()
    return column


def test_fetch_matches_the_manifest_of_versions(raw_digits: Path) -> None:
    row = expected("digits")
    assert sha256(raw_digits) == row["sha256"]
    assert raw_digits.stat().st_size == int(row["bytes"])
    assert row["licence"]


def test_unknown_source() -> None:
    with pytest.raises(UserError, match=r"versions\.csv: no row for 'mnist'; it has .*digits"):
        expected("mnist")


def test_digits_are_scikit_learns(raw_digits: Path) -> None:
    data, bunch = read_digits(raw_digits), load_digits()
    assert data.images.shape == (1797, 1, 8, 8) and data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.labels, bunch.target)
    np.testing.assert_allclose(data.images[:, 0] / 255 * 16, bunch.images, atol=0.04)
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert data.class_names == [str(digit) for digit in range(10)]


def test_splits_are_disjoint_complete_and_stratified(prepared: Path, raw_digits: Path) -> None:
    train, reference = (rows_of(prepared / f"{s}.parquet") for s in ("train", "reference"))
    assert (len(train), len(reference)) == (1000, 797)
    assert sorted(train + reference) == list(range(1797))
    assert train == sorted(train)
    counts = np.bincount(read_digits(raw_digits).labels)
    manifest = read_json(prepared / "manifest.json")
    for name, n in (("train", 1000), ("reference", 797)):
        found = np.array(manifest["splits"][name]["class_counts"])
        assert found.sum() == manifest["splits"][name]["count"] == n
        assert np.abs(found - counts * n / 1797).max() <= 1


def test_manifest(prepared: Path) -> None:
    content = read_json(prepared / "manifest.json")
    assert content["shape"] == [1, 8, 8] and content["dtype"] == "uint8"
    assert content["source"]["sha256"] == expected("digits")["sha256"]
    manifest = load_manifest(prepared / "manifest.json")
    assert (manifest.shape, manifest.num_classes) == ((1, 8, 8), 10)
    assert manifest.class_names == tuple("0123456789")
    for split, digest in manifest.hashes.items():
        assert digest == sha256(prepared / f"{split}.parquet")


def test_images_and_labels_stay_together(prepared: Path, raw_digits: Path) -> None:
    data, manifest = read_digits(raw_digits), load_manifest(prepared / "manifest.json")
    for split in ("train", "reference"):
        images, labels = load_images(prepared / f"{split}.parquet", manifest)
        rows = rows_of(prepared / f"{split}.parquet")
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        np.testing.assert_array_equal(images.numpy(), data.images[rows])
        np.testing.assert_array_equal(labels.numpy(), data.labels[rows])


def test_same_settings_same_bytes(prepared: Path, raw_digits: Path, tmp_path: Path) -> None:
    prepare(SETTINGS, raw_digits, tmp_path / "again")
    prepare(SETTINGS.model_copy(update={"split_seed": 1}), raw_digits, tmp_path / "other")
    for name in ("train.parquet", "reference.parquet", "manifest.json"):
        assert sha256(tmp_path / "again" / name) == sha256(prepared / name)
        assert sha256(tmp_path / "other" / name) != sha256(prepared / name)


def _flipped(content: bytes) -> bytes:
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


@pytest.mark.parametrize(
    "damage", [_flipped, lambda c: c[:-1], lambda c: b"", gzip.decompress, lambda c: c + b"\n"]
)
def test_corrupt_raw_file(raw_digits: Path, tmp_path: Path, damage: Any) -> None:
    corrupt = tmp_path / "digits.raw"
    corrupt.write_bytes(damage(raw_digits.read_bytes()))
    with pytest.raises(UserError) as caught:
        prepare(SETTINGS, corrupt, tmp_path / "out")
    text = str(caught.value)
    assert text.startswith(f"{corrupt}: raw data is corrupt: {corrupt.stat().st_size} bytes")
    assert "expected 57523 bytes" in text and "Delete the file" in text
    assert not (tmp_path / "out").exists()


def test_missing_raw_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="raw data is missing; run `snakemake`"):
        verify("digits", tmp_path / "absent")


def test_unknown_source_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="source 'mnist' is unknown; choose from digits, fashion"):
        fetch("mnist", tmp_path / "raw")


def test_corrupt_fetch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that changed is refused: the file never appears under its name."""
    row = expected("digits") | {"sha256": "0" * 64}
    monkeypatch.setattr("mclr.data.sources.expected", lambda source: row)
    monkeypatch.setattr("mclr.data.raw.expected", lambda source: row)
    with pytest.raises(UserError, match=r"digits\.raw: raw data is corrupt"):
        fetch("digits", tmp_path / "digits.raw")
    assert list(tmp_path.iterdir()) == []


def raw(labels: list[int], shape: tuple[int, ...] = (1, 2, 2), dtype: Any = np.uint8) -> RawImages:
    images = np.zeros((len(labels), *shape), dtype)
    return RawImages(images, np.array(labels), ["a", "b"])


SMALL = Data(source="digits", n_reference=4, split_seed=0)


def test_check_accepts_good_data() -> None:
    check(raw([0, 1] * 4), RAW, SMALL)


def test_check_refuses_a_source_without_its_own_test_split() -> None:
    settings = SMALL.model_copy(update={"n_reference": None})
    with pytest.raises(UserError, match=r"data\.n_reference: required .* digits has no test split"):
        check(raw([0, 1] * 4), RAW, settings)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (raw([0, 1] * 4, dtype=np.float32), "expected uint8 images"),
        (raw([0, 1] * 4, shape=(2, 2)), r"expected uint8 images \(N, C, H, W\)"),
        (RawImages(raw([0]).images, np.zeros(3, int), ["a", "b"]), "and 3 labels"),
        (raw([0, 1, 2, 0]), r"labels must lie in 0\.\.1, got 0\.\.2"),
        (raw([0, 1, -1, 0]), r"labels must lie in 0\.\.1, got -1\.\.1"),
        (raw([0, 0, 0, 0, 0, 1, 1]), r"out of balance: \[5, 2\]"),
        (raw([0] * 8), r"out of balance: \[8, 0\]"),
        (raw([0, 1] * 2), r"n_reference: 4 of 4 images leave a split"),
        (raw([0, 1]), r"n_reference: 4 of 2 images"),
    ],
)
def test_check_refuses(data: RawImages, text: str) -> None:
    with pytest.raises(UserError, match=text):
        check(data, RAW, SMALL)


def test_averaged_down_by_the_command(prepared: Path, raw_digits: Path, tmp_path: Path) -> None:
    spec = ["--spec", SETTINGS.model_dump_json(), "--raw", str(raw_digits)]
    more = ["--output", str(tmp_path), "--resolution", "4"]
    CliRunner().invoke(cli, ["prepare", *spec, *more], catch_exceptions=False)
    manifest = load_manifest(tmp_path / "manifest.json")
    assert manifest.shape == (1, 4, 4)
    images, labels = load_images(tmp_path / "reference.parquet", manifest)
    large, same = load_images(
        prepared / "reference.parquet", load_manifest(prepared / "manifest.json")
    )
    assert torch.equal(labels, same)
    assert torch.equal(images, torch.from_numpy(average_down(large.numpy(), 4)))


def test_too_large_reference_in_prepare(raw_digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.n_reference: 1790 of 1797"):
        prepare(SETTINGS.model_copy(update={"n_reference": 1790}), raw_digits, tmp_path / "out")
    assert not (tmp_path / "out").exists()
