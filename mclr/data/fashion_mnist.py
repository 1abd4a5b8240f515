"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 70,000 grey images of clothes, 28×28.

The raw file is a tar of the four published gzip files, without the names and times in their headers
(Debian's package has other ones), so that it is the same wherever the files came from.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclr.data.raw import RawImages, expected
from mclr.errors import UserError
from mclr.events import LOG

NAMES = tuple(f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images", "labels"))
FILES = {name: f"{name}-idx{3 if name.endswith('images') else 1}-ubyte.gz" for name in NAMES}
CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
PADDING = 2  # black on each side: 32×32

VARIABLE = "MCLR_FASHION_MNIST"
PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
PATIENCE_S = 60.0  # without an answer
PAUSES_S = (1.0, 5.0, 0.0)  # after each try to download


def fetch_fashion_mnist(path: Path) -> None:
    """Write the raw file, from the first place that has the published images.

    The places: ``$MCLR_FASHION_MNIST`` (a folder with the four files, or Debian's package), then
    Debian's package as installed, as apt-get downloads it, and the publisher's server. If the
    variable is set, no other place is asked.

    Raises:
        UserError: no place has them; the message says what each place answered.
    """
    named = os.environ.get(VARIABLE)
    places: list[Callable[[Path], Path]] = [_installed, _apt_get, _download]
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for place in [_named] if named else places:
            try:
                files = _published(place(Path(folder)))
            except (OSError, subprocess.SubprocessError, EOFError, UserError) as error:
                failures.append(f"{place.__name__.strip('_')}: {_reason(error)}")
            else:
                _write_tar(path, files)
                return
    raise UserError(
        f"fashion-mnist: no place has its files. {'; '.join(failures)}. Put "
        f"{', '.join(FILES.values())} or Debian's {PACKAGE}_….deb into a folder, set {VARIABLE} "
        "to it and run again"
    )


def _named(folder: Path) -> Path:
    place = Path(os.environ[VARIABLE])
    packages = [place] if place.suffix == ".deb" else sorted(place.glob("*.deb"))
    return _unpack(packages[-1], folder) if packages else place


def _installed(folder: Path) -> Path:
    return INSTALLED


def _apt_get(folder: Path) -> Path:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise UserError("there is no apt-get or no dpkg here")
    try:
        _command("apt-get", "download", PACKAGE, folder=folder)
    except subprocess.SubprocessError:
        if os.geteuid() != 0:
            raise
        _command("apt-get", "update", folder=folder)
        _command("apt-get", "download", PACKAGE, folder=folder)
    return _unpack(next(folder.glob("*.deb")), folder)


def _unpack(package: Path, folder: Path) -> Path:
    _command("dpkg", "-x", str(package.resolve()), str(folder / "package"), folder=folder)
    return folder / "package" / INSTALLED.relative_to("/")


def _command(*words: str, folder: Path) -> None:
    subprocess.run(
        words, cwd=folder, check=True, capture_output=True, text=True, timeout=10 * PATIENCE_S
    )


def _download(folder: Path) -> Path:
    for name, file in FILES.items():
        url = expected(f"fashion-mnist/{name}")["url"]
        LOG.info("fetching %s", url)
        for pause in PAUSES_S:
            try:
                with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                    (folder / file).write_bytes(answer.read())
                break
            except OSError as error:
                if not pause:
                    raise OSError(f"{url}: {_reason(error)}") from error
                time.sleep(pause)
    return folder


def _reason(error: Exception) -> str:
    """The last line of what a command said, or the error's own words."""
    said = getattr(error, "stderr", None) or str(error)
    return str(said).strip().rsplit("\n", 1)[-1] or type(error).__name__


def _published(folder: Path) -> dict[str, bytes]:
    """The four files in ``folder``, each checked against its row of ``data/versions.csv``."""
    files = {}
    for name, file in FILES.items():
        content = nameless((folder / file).read_bytes())
        row = expected(f"fashion-mnist/{name}")
        found = hashlib.sha256(content).hexdigest()
        if found != row["sha256"]:
            raise UserError(
                f"{folder / file}: not the published file: {len(content)} bytes with sha256 "
                f"{found[:12]}…, expected {row['bytes']} bytes with {row['sha256'][:12]}…"
            )
        files[file] = content
    return files


# RFC 1952: magic (2), method (1), flags (1), time (4), extra flags (1), system (1), [name, 0].
def nameless(content: bytes) -> bytes:
    """A gzip file with time 0 and without the name of the file that was packed."""
    has_name = len(content) > 10 and content[3] == 8
    start = content.find(b"\0", 10) + 1 if has_name else 10
    return content[:3] + bytes(5) + content[8:10] + content[start:]


def _write_tar(path: Path, files: dict[str, bytes]) -> None:
    """Equal files give equal bytes: tarfile's default owner is 0 and its default time is 0."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file, content in files.items():
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def read_fashion_mnist(path: Path) -> RawImages:
    """Fashion-MNIST, padded with black to 32×32; the last 10,000 images are its test split."""
    content = {}
    with tarfile.open(path) as tar:
        for name, file in FILES.items():
            with gzip.open(tar.extractfile(file)) as packed:  # type: ignore[arg-type]
                content[name] = read_idx(packed.read())
    images = np.concatenate([content["train-images"], content["t10k-images"]])
    labels = np.concatenate([content["train-labels"], content["t10k-labels"]])
    margin = (PADDING, PADDING)
    padded = np.pad(images, ((0, 0), margin, margin))[:, None]
    test = np.arange(len(labels)) >= len(content["train-labels"])
    return RawImages(padded, labels.astype(np.int64), CLASSES, test)


# The header: 0, 0, 8 (unsigned byte), number of dimensions, then each as a big-endian uint32.
def read_idx(content: bytes) -> NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
