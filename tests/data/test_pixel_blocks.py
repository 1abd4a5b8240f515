"""Pixels that are read in blocks: the same in any way, and never all in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from mclr.data import pixels
from mclr.data.load import Manifest, iter_images, load_images, map_images
from mclr.files import sha256, write_json
from mclr.jobs import training
from mclr.jobs.inputs import Data
from mclr.planning.plan import Plan
from mclr.planning.specs import BaseSpec
from mclr.settings.origin import Released
from mclr.settings.section import canonical


def write_split(folder: Path, images: np.ndarray, rows_in_group: int = 2**20) -> None:
    """A training split as ``mclr.data.prepare`` writes it, with its manifest."""
    folder.mkdir(parents=True)
    n, flat = len(images), images.reshape(len(images), -1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    labels = pa.array(np.arange(n) % 10, pa.int16())
    path = folder / "train.parquet"
    pq.write_table(pa.table({"label": labels, "image": column}), path, rows_in_group)
    about = {"sha256": sha256(path), "count": n, "class_counts": [n // 10] * 10}
    content = {"source": {}, "shape": list(images.shape[1:]), "num_classes": 10}
    names = [str(i) for i in range(10)]
    write_json(
        folder / "manifest.json", content | {"class_names": names, "splits": {"train": about}}
    )


@pytest.fixture
def split(tmp_path: Path) -> tuple[Path, torch.Tensor, Manifest]:
    images = np.random.default_rng(0).integers(0, 256, (530, 3, 4, 4), dtype=np.uint8)
    write_split(tmp_path / "data", images, 100)
    manifest = Manifest(3, 4, 10, (), {})
    return tmp_path / "data" / "train.parquet", torch.from_numpy(images), manifest


@pytest.mark.parametrize("block", [1, 48 * 7, 48 * 100, 2**24])
def test_every_way_to_read_gives_the_same(
    split: tuple[Path, torch.Tensor, Manifest],
    block: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path, images, manifest = split
    monkeypatch.setattr(pixels, "BLOCK", block)
    labels = torch.arange(530) % 10
    rows = torch.tensor([529, 0, 3, 3, 117, 100, 99])
    assert torch.equal(load_images(path, manifest)[0], images)
    some, their = load_images(path, manifest, rows)
    assert torch.equal(some, images[rows]) and torch.equal(their, labels[rows])
    mapped, their = map_images(path, manifest, tmp_path / "scratch")
    assert torch.equal(mapped, images) and torch.equal(their, labels)
    assert not [*(tmp_path / "scratch").iterdir()]
    for size, start in ((64, 0), (530, 0), (1000, 3), (7, 100), (50, 529), (50, 530)):
        parts = [*iter_images(path, manifest, size, start)]
        lengths = [len(part) for part, _ in parts]
        assert lengths == [min(size, 530 - i) for i in range(start, 530, size)]
        if parts:
            assert torch.equal(torch.cat([part for part, _ in parts]), images[start:])
            assert torch.equal(torch.cat([part for _, part in parts]), labels[start:])


TRAIN = """
import sys
from pathlib import Path
from mclr.jobs.inputs import Data
from mclr.jobs.training import train_base
from mclr.planning.specs import BaseSpec

def peak():
    # Of this program alone: what getrusage says begins with its parent's.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])

spec = BaseSpec.model_validate_json(sys.argv[1])
peaks = []
for folder in map(Path, sys.argv[2:]):
    train_base(spec, Data(folder / "data"), None, folder / "edm2-base", folder / "state")
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""


def short_training(plan: Plan, steps: int = 2) -> BaseSpec:
    spec = plan.base_spec("edm2")
    assert not isinstance(spec.base, Released)
    return spec.with_(base=spec.base.model_copy(update={"steps": steps, "batch": 8}))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_a_model_of_pixels_trains_in_less_memory_than_the_images_take(
    tiny_plan: Plan, tmp_path: Path
) -> None:
    """A training on 123 MB after one on 1 MB, by one process: what the peak of its memory adds."""
    images = np.zeros((10_000, 3, 64, 64), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(images)) % 251
    folders = tmp_path / "few", tmp_path / "many"
    write_split(folders[0] / "data", images[:80])
    write_split(folders[1] / "data", images)
    words = [sys.executable, "-c", TRAIN, canonical(short_training(tiny_plan)), *map(str, folders)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < images.nbytes / 2
    assert [*(folders[1] / "edm2-base" / "checkpoints").iterdir()]


def test_trains_to_the_same_bits_as_on_encoded_images(
    tiny_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    write_split(tmp_path / "data", images, 16)
    spec, found = short_training(tiny_plan, steps=9), []  # more than all images once
    for is_mapped in (True, False):
        if not is_mapped:
            monkeypatch.setattr(training, "is_of_pixels", lambda spec: False)
        folder = tmp_path / str(is_mapped)
        training.train_base(spec, Data(tmp_path / "data"), None, folder / "base", folder / "state")
        found.append([load_file(path) for path in sorted(folder.rglob("*.safetensors"))])
    assert found[0] and len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
