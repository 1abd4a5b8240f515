"""Fashion-MNIST from a folder, a package or a server: small files laid out as the published."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mclr.data import fashion_mnist
from mclr.data.fashion_mnist import FILES, fetch_fashion_mnist, nameless, read_fashion_mnist
from mclr.data.load import load_images, load_manifest
from mclr.data.prepare import average_down, prepare
from mclr.data.raw import expected
from mclr.data.sources import fetch
from mclr.errors import UserError
from mclr.files import read_json, sha256
from mclr.settings.data import Data

SIZES = {"train": 40, "t10k": 20}


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    found = {}
    for split, n in SIZES.items():
        found[f"{split}-images"] = random.integers(256, size=(n, 28, 28), dtype=np.uint8)
        found[f"{split}-labels"] = (np.arange(n) % 10).astype(np.uint8)
    return found


def write_files(folder: Path, mtime: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays().items():
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        with gzip.GzipFile(folder / FILES[name], "wb", mtime=mtime) as stream:
            stream.write(header + array.tobytes())
    return folder


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files, which are the published ones during the test."""
    folder = write_files(tmp_path / "published")
    rows = {}
    for name, file in FILES.items():
        content = nameless((folder / file).read_bytes())
        rows[f"fashion-mnist/{name}"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": str(len(content)),
            "url": (folder / file).as_uri(),
        }
    monkeypatch.setattr(fashion_mnist, "expected", rows.__getitem__)
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "not-installed")
    monkeypatch.setattr(fashion_mnist, "PAUSES_S", (0.001, 0.0))
    monkeypatch.delenv("MCLR_FASHION_MNIST", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return folder


def command(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def fake_apt(folder: Path, published: Path) -> None:
    command(folder, "apt-get", 'echo "$@" >>' + f'{folder}/calls; : > "$2_1_all.deb"')
    inside = fashion_mnist.INSTALLED.relative_to("/")
    command(folder, "dpkg", f'/bin/mkdir -p "$3/{inside}"; /bin/cp {published}/*.gz "$3/{inside}"')


def from_variable(folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCLR_FASHION_MNIST", str(published))


def from_package_in_a_folder(
    folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_apt(folder, published)
    (folder / "debs").mkdir()
    (folder / "debs" / "x.deb").touch()
    monkeypatch.setenv("MCLR_FASHION_MNIST", str(folder / "debs"))


def from_package(folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_package_in_a_folder(folder, published, monkeypatch)
    monkeypatch.setenv("MCLR_FASHION_MNIST", str(folder / "debs" / "x.deb"))


def from_installed(folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "INSTALLED", published)


def from_apt(folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(folder, published)


def from_server(folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


PLACES = [
    from_variable, from_package_in_a_folder, from_package, from_installed, from_apt, from_server,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_every_place_gives_the_same_raw_file(
    place: Callable[..., None], published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, published, monkeypatch)
    fetch_fashion_mnist(tmp_path / "raw")
    monkeypatch.setenv("MCLR_FASHION_MNIST", str(write_files(tmp_path / "later", mtime=9)))
    fetch_fashion_mnist(tmp_path / "again")
    assert (tmp_path / "raw").read_bytes() == (tmp_path / "again").read_bytes()
    assert (tmp_path / "calls").exists() == (place is from_apt)


def test_without_any_place_each_answer_is_told(published: Path, tmp_path: Path) -> None:
    command(tmp_path, "apt-get", f'echo "$@" >> {tmp_path}/calls; echo "E: no such" >&2; exit 100')
    command(tmp_path, "dpkg", "exit 0")
    (published / FILES["t10k-images"]).unlink()
    with pytest.raises(UserError) as caught:
        fetch_fashion_mnist(tmp_path / "raw")
    text = str(caught.value)
    assert "installed: " in text and "not-installed" in text and "apt_get: E: no such" in text
    assert "download: file://" in text and "t10k-images-idx3-ubyte.gz" in text
    assert "set MCLR_FASHION_MNIST" in text and "train-images-idx3-ubyte.gz" in text
    calls = (tmp_path / "calls").read_text().split("\n")[:-1]
    download = "download dataset-fashion-mnist"
    assert calls == ([download, "update"] if os.geteuid() == 0 else [download])


def test_other_images_are_refused(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that the user named is the only place asked."""
    with gzip.open(published / FILES["train-labels"], "wb") as stream:
        stream.write(b"others")
    from_variable(tmp_path, published, monkeypatch)
    with pytest.raises(UserError, match=r"named: .*train-labels.*: not the published file: 2\d b"):
        fetch_fashion_mnist(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_images_are_padded_and_the_test_split_is_last(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_fashion_mnist(tmp_path / "raw")
    data, raw = read_fashion_mnist(tmp_path / "raw"), arrays()
    assert data.images.shape == (60, 1, 32, 32) and data.images.dtype == np.uint8
    inner = np.concatenate([raw["train-images"], raw["t10k-images"]])
    np.testing.assert_array_equal(data.images[:, 0, 2:-2, 2:-2], inner)
    assert data.images.sum(dtype=np.int64) == inner.sum(dtype=np.int64)  # the margin is black
    assert data.labels.tolist() == [*range(10)] * 6
    assert data.test is not None and data.test.tolist() == [False] * 40 + [True] * 20
    assert data.class_names[0] == "T-shirt/top" and data.class_names[9] == "Ankle boot"


def test_prepared_with_the_own_test_split_and_averaged_down(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_fashion_mnist(tmp_path / "raw")
    monkeypatch.setattr("mclr.data.prepare.verify", lambda source, path: None)
    settings, folders = Data(source="fashion-mnist"), [tmp_path / "32", tmp_path / "16"]
    prepare(settings, tmp_path / "raw", folders[0])
    prepare(settings, tmp_path / "raw", folders[1], resolution=16)
    splits = []
    for folder, side in zip(folders, (32, 16), strict=True):
        manifest = load_manifest(folder / "manifest.json")
        assert (manifest.shape, manifest.num_classes) == ((1, side, side), 10)
        assert manifest.hashes["train"] == sha256(folder / "train.parquet")
        content = read_json(folder / "manifest.json")["splits"]
        assert content["reference"]["class_counts"] == [2] * 10
        assert content["train"]["class_counts"] == [4] * 10
        splits.append(load_images(folder / "reference.parquet", manifest))
    (large, labels), (small, same) = splits
    assert labels.tolist() == same.tolist()
    np.testing.assert_array_equal(large[:, 0, 2:-2, 2:-2].numpy(), arrays()["t10k-images"])
    np.testing.assert_array_equal(small.numpy(), average_down(large.numpy(), 16))


def test_held_out_at_random_when_a_number_is_given(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_fashion_mnist(tmp_path / "raw")
    monkeypatch.setattr("mclr.data.prepare.verify", lambda source, path: None)
    prepare(Data(source="fashion-mnist", n_reference=30), tmp_path / "raw", tmp_path / "out")
    content = read_json(tmp_path / "out" / "manifest.json")["splits"]
    assert content["reference"]["class_counts"] == content["train"]["class_counts"] == [3] * 10


def test_average_of_squares() -> None:
    image = np.zeros((1, 1, 4, 4), np.uint8)
    image[0, 0, :2, :2] = [[0, 1], [2, 3]]  # 1.5, rounded up
    image[0, 0, :2, 2:] = [[0, 0], [0, 1]]  # 0.25
    image[0, 0, 2:, 2:] = 255
    assert average_down(image, 2).tolist() == [[[[2, 0], [0, 255]]]]
    assert average_down(image, 1).tolist() == [[[[64]]]]
    assert (average_down(image, 4) == image).all()
    for resolution in (3, 8, 0):
        with pytest.raises(UserError, match=rf"resolution {resolution}: images of 4×4 pixels"):
            average_down(image, resolution)
    with pytest.raises(UserError, match="images of 2×4 pixels"):
        average_down(image[:, :, :2], 2)


@pytest.mark.skipif("MCLR_FASHION_MNIST" not in os.environ, reason="needs the published files")
def test_published_files(tmp_path: Path) -> None:
    fetch("fashion-mnist", tmp_path / "raw")
    assert sha256(tmp_path / "raw") == expected("fashion-mnist")["sha256"]
    data = read_fashion_mnist(tmp_path / "raw")
    assert data.test is not None
    assert np.bincount(data.labels[data.test]).tolist() == [1000] * 10
    assert np.bincount(data.labels[~data.test]).tolist() == [6000] * 10


def test_names_and_times_of_packed_files_do_not_matter(tmp_path: Path) -> None:
    for name, mtime in (("a", 1), ("b", 2)):
        with gzip.GzipFile(tmp_path / name, "wb", mtime=mtime) as stream:
            stream.write(b"content")
    plain = nameless((tmp_path / "a").read_bytes())
    assert plain == nameless((tmp_path / "b").read_bytes()) == nameless(plain)
    assert gzip.decompress(plain) == b"content"
