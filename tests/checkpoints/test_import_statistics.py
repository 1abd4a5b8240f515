"""Reference statistics: EDM2's pickles and the .npz of EDM and ADM."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_edm2 import UTIL

from mclr.errors import UserError
from mclr.weights.header import Header, load_checkpoint, load_statistics
from mclr.weights.importer import import_weights


def moments(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    samples = np.random.default_rng(seed).normal(size=(4 * size, size))
    return {"mu": samples.mean(0), "sigma": np.cov(samples, rowvar=False)}


def run(tmp_path: Path, name: str, content: bytes, **options: Any) -> Header:
    (tmp_path / name).write_bytes(content)
    return import_weights(tmp_path / name, tmp_path / "out.safetensors", **options)


def error(tmp_path: Path, name: str, content: bytes, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(tmp_path, name, content, **options)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    return str(caught.value)


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("kind", [None, "statistics"])
def test_reference_pickle(tmp_path: Path, protocol: int, kind: Any) -> None:
    fid, dino = moments(6), moments(4, 1)
    content = {"num_images": 1281167, "fid": fid, "fd_dinov2": dino, "note": "x"}
    header = run(tmp_path, "img64.pkl", pickle.dumps(content, protocol), kind=kind)
    assert header.kind == "statistics" and header.num_images == 1281167
    assert header.architecture == {"fid": 6, "fd_dinov2": 4} and header.dropped == ["note"]
    assert (header.stored_dtype, header.parameters) == ("float64", 6 + 36 + 4 + 16)
    found, again = load_statistics(tmp_path / "out.safetensors")
    assert again == header and list(found) == ["fd_dinov2", "fid"]
    for name, want in (("fid", fid), ("fd_dinov2", dino)):
        assert np.array_equal(found[name].mu.numpy(), want["mu"])
        assert np.array_equal(found[name].sigma.numpy(), want["sigma"])
        assert found[name].sigma.dtype == torch.float64
    with pytest.raises(UserError, match="expected weights of a network"):
        load_checkpoint(tmp_path / "out.safetensors")


def test_dictionary_of_the_official_code(tmp_path: Path) -> None:
    """The official class for dictionaries, and a file with Inception features only."""
    space: dict[str, Any] = {"__name__": "dnnlib.util"}
    exec(UTIL, space)
    easy = space["EasyDict"]
    content = easy(fid=easy(moments(3)))
    raw = io.BytesIO()
    pickler = pickle.Pickler(raw, 4)
    import sys
    import types

    package, module = types.ModuleType("dnnlib"), types.ModuleType("dnnlib.util")
    module.EasyDict = easy  # type: ignore[attr-defined]
    sys.modules |= {"dnnlib": package, "dnnlib.util": module}
    try:
        pickler.dump(content)
    finally:
        del sys.modules["dnnlib"], sys.modules["dnnlib.util"]
    header = run(tmp_path, "ref.pkl", raw.getvalue())
    assert header.architecture == {"fid": 3} and header.num_images is None


def test_npz(tmp_path: Path) -> None:
    """ADM's file has images and other moments beside mu and sigma; float32 converts exactly."""
    want = {key: value.astype(np.float32) for key, value in moments(5).items()}
    want["sigma"] = (want["sigma"] + want["sigma"].T) / 2
    images = np.zeros((2, 4, 4, 3), np.uint8)
    content = npz(**want, mu_s=np.zeros(3), sigma_s=np.zeros((3, 3)), arr_0=images)
    header = run(tmp_path, "adm.npz", content)
    assert header.architecture == {"fid": 5} and header.stored_dtype == "float32"
    assert header.dropped == ["mu_s", "sigma_s", "arr_0"]
    found, _ = load_statistics(tmp_path / "out.safetensors")
    assert np.array_equal(found["fid"].mu.numpy(), want["mu"].astype(np.float64))
    assert np.array_equal(found["fid"].sigma.numpy(), want["sigma"].astype(np.float64))


def bad(**changes: Any) -> dict[str, np.ndarray]:
    return {**moments(3), **changes}


@pytest.mark.parametrize(
    ("expected", "parts"),
    [
        ("no finite mean", bad(mu=np.zeros(4))),
        ("no finite mean", bad(mu=np.full(3, np.nan))),
        ("no finite mean", bad(sigma=np.full((3, 3), np.inf))),
        ("no finite mean", {"mu": np.zeros(0), "sigma": np.zeros((0, 0))}),
        ("not symmetric", bad(sigma=np.triu(np.ones((3, 3))))),
        ("negative variances", bad(sigma=-np.eye(3))),
    ],
)
def test_impossible_moments(tmp_path: Path, expected: str, parts: dict[str, np.ndarray]) -> None:
    assert expected in error(tmp_path, "x.npz", npz(**parts))
    (tmp_path / "x.npz").unlink()
    assert expected in error(tmp_path, "x.pkl", pickle.dumps({"fid": parts}, 4))


def test_no_statistics(tmp_path: Path) -> None:
    for content in ({}, {"fid": moments(3)["mu"]}, {"fid": {"mu": np.zeros(3)}}):
        assert "no statistics in it" in error(tmp_path, "x.pkl", pickle.dumps(content, 4))
    (tmp_path / "x.pkl").unlink()
    message = error(tmp_path, "x.npz", npz(arr_0=np.zeros(3)))
    assert "not an .npz with plain arrays mu and sigma" in message
    assert "not var" in error(tmp_path, "x.npz", npz(**moments(3)), kind="var")


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = np.array([Runs(f"touch {marker}")] * 3, dtype=object)
    message = error(tmp_path, "x.npz", npz(**bad(mu=evil)))
    assert "not an array of plain numbers" in message and not marker.exists()


def test_damaged_and_absurd_archives(tmp_path: Path) -> None:
    good = npz(**moments(3))
    for content in (good[:100], good[:-40]):
        assert "refused" in error(tmp_path, "x.npz", content)
    stream = io.BytesIO()
    head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"
    with zipfile.ZipFile(stream, "w") as archive:
        text = head % 10**15
        archive.writestr("mu.npy", text.ljust(127) + b"\n")
        archive.writestr("sigma.npy", b"plain text")
    assert "refused" in error(tmp_path, "x.npz", stream.getvalue())


def test_archive_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its members are called, and whatever they say of their size."""
    large = npz(mu=np.zeros(6), sigma=np.zeros((6, 6)))
    monkeypatch.setattr("mclr.checkpoints.reference.MAX_FEATURES", 5)
    assert "mu.npy has shape (6,); at most 5 features" in error(tmp_path, "x.npz", large)
    monkeypatch.undo()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mu", b"\0" * (1 << 24))  # numpy finds it as mu, too
        archive.writestr("sigma.npy", b"\0" * (1 << 24))
    assert "plain arrays mu and sigma" in error(tmp_path, "x.npz", stream.getvalue())
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
        archive.writestr("mu.npy", head.ljust(127) + b"\n" + b"\0" * (1 << 24))
        archive.writestr("sigma.npy", b"")
    assert "does not hold 24 bytes" in error(tmp_path, "x.npz", stream.getvalue())


def test_one_array_under_many_names(tmp_path: Path) -> None:
    """A small file would otherwise become as many arrays as it has names."""
    parts = moments(50)
    content = {f"net{i}": parts for i in range(200)}
    assert "its tensors unpack to" in error(tmp_path, "x.pkl", pickle.dumps(content, 4))


def test_a_changed_byte_is_damage(tmp_path: Path) -> None:
    good = npz(**moments(5))
    place = good.index(b"\n", good.index(b"NUMPY")) + 9
    changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    assert "CRC-32" in error(tmp_path, "x.npz", changed)
